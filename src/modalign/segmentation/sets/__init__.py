"""Benchmark data sets of segmentation: where they lie on disk, how their labels are read, and their class names."""
