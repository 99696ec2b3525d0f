"""The command line, its stages, and the report of a comparison. All that is printed is printed here."""
