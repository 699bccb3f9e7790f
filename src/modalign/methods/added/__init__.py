"""Classes that were added to a fitted method."""
