"""FAIR: self-training with crops of unlabeled images, and related self-training methods."""
