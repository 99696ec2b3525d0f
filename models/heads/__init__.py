"""The heads: classifiers that learn from a feature table."""
