"""The parts of a list of images: its dialect, what its columns hold, and where its images are."""
