"""A classifier as one file that needs nothing of this project."""
