"""The public side: HTTP in, engines out, and one exchange for each request between them."""
