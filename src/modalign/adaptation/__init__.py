"""From images to an adapted classifier."""

from modalign.adaptation.pipeline import adapt

__all__ = ["adapt"]
