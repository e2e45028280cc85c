"""From numbers to something to look at."""
