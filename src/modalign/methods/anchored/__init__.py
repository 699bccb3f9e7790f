"""Gaussian classifier with class texts as prior means, a method of this library."""
