"""The parts of a Hugging Face image set: its files, which column is which, and its rows."""
