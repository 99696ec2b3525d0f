"""Tests: a file a module, named after behaviour; they make their own images and networks."""
