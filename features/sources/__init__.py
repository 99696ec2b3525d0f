"""Where images come from: a list of key, label and split, and a way to read and decode one of them."""
