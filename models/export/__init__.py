"""Classifiers as ONNX, of standard operators alone."""
