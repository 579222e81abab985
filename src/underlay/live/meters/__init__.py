"""What was drawn: every meter that this machine has, read beside the requests and never in their way."""
