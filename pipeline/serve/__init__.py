"""A classifier as a server: a page for people and an interface for programs."""
