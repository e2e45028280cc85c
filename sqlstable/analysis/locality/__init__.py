"""How local a trace is: where it touches, in which order, and what it comes back to."""
