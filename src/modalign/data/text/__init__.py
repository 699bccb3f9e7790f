"""Class names → sentences."""
