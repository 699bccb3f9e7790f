"""From images to an adapted classifier."""

from modalign.model.adaptation.pipeline import adapt

__all__ = ["adapt"]
