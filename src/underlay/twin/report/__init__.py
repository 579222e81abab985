"""What people are given of a run: words and numbers for a terminal, a page with plots, tables for programs."""
