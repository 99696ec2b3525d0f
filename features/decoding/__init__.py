"""Bytes to pixels: the one decoder that every image goes through, and the rules that it is told."""
