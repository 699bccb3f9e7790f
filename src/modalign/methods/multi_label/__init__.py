"""Several classes per image, by the methods for one class per image."""
