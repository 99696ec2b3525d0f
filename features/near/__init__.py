"""Doubles and near-doubles among images: who is near whom, and from where on that is too near."""
