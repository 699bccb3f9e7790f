"""Gaussian classes anchored in the class texts: a method of our own."""
