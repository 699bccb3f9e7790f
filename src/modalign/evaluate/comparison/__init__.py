"""Comparison of all methods on the same images."""
