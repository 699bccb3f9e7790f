"""Decoding of image files: bytes → pixels, or the reason for a failure."""
