"""Benchmark data sets of segmentation: layouts on disk, label rules, and class names."""
