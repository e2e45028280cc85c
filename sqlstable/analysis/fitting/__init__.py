"""Whether messages fit the Internet Computer: verdicts, slices and rounds, heap delta."""
