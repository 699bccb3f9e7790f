"""Pages that show the photos of a source."""
