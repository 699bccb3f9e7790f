"""Arguments of public functions."""
