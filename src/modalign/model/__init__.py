"""Adaptation, the classifier, its predictions and saved models."""
