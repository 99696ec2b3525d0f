"""Which rows and columns of a table heads learn from, and what all of them ask of these."""
