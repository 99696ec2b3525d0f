"""What decoding knows of each format: how its files are told, what is wrong with them, which way up they are."""
