"""What happened: accesses, statements, messages and page owners, and the file that keeps them."""
