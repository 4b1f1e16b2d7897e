"""Samples, augmented views of them, and the order in which they come."""
