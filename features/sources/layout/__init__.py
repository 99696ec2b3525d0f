"""What lies below a folder, and what its folders are: classes, splits or neither."""
