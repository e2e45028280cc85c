"""A module read, and written again so that its instructions and heap can be watched."""
