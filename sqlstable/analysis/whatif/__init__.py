"""What a trace would look like under other settings, with the error of each answer."""
