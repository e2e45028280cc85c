"""Image files: stable memory kept in a file, its commits, and the recovery of what was cut off."""
