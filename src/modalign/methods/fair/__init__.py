"""FAIR: self-training on unlabeled crops, and the methods that it is compared with."""
