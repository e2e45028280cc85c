"""The life of a canister, and the front door that joins engine and trace."""
