"""From numbers to something to look at: tables, comparisons, JSON and CSV."""
