"""Bytes of an image file → pixels, or one reason why not."""
