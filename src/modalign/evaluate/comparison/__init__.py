"""Every method on the same images."""
