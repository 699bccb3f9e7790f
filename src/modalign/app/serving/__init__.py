"""A saved classifier as an HTTP service."""
