"""Detection of problems in a set of images before training."""
