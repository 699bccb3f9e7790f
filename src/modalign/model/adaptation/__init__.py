"""Adaptation of a classifier to images."""

from modalign.model.adaptation.pipeline import adapt

__all__ = ["adapt"]
