"""Extraction and caching of image features."""
