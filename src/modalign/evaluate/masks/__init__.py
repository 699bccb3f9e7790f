"""Evaluation of label maps: IoU per class with intervals over images."""
