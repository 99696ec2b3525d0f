"""The feature table: Parquet shards, a ledger of what could not be read, a manifest; several side by side."""
