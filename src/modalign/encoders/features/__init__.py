"""Images → vectors, computed once and kept on disk."""
