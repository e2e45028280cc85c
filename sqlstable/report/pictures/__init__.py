"""Still pictures of a trace with matplotlib, for papers and slides."""
