"""A canister runtime: WebAssembly run and metered as a replica does; it knows no SQL."""
