"""What the Internet Computer says, as data with sources: units, and limits by date."""
