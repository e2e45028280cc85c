"""Several canisters beside each other: messages between them, timers, cycles; no network."""
