"""Images to feature tables: sources, decoding, frozen trunks, extraction, and the Parquet table.

Nothing here knows of classifiers or of the command line; `models` and `pipeline` build on it.
"""
