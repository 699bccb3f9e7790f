"""Which images teach, validate and test: marked by a source, listed in a file, or drawn."""
