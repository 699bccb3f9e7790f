"""Settings and results of the five papers, and how to reproduce each number."""
