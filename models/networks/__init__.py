"""Networks trained on images: what is trained, on what, how, and the classifier that comes of it."""
