"""The result of a comparison: its figures, and the pages and pictures that show them."""
