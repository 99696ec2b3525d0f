"""What is wrong with a set of images, as far as its feature table tells: one file a kind of finding."""
