"""The pictures of an HTML page: packed columns, and the scripts that draw them."""
