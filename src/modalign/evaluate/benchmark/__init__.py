"""The published protocols over many data sets, methods and seeds: ``modalign bench``."""
