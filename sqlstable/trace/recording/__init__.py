"""From a message's log of accesses to what a trace says of it."""
