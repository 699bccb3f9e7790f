"""Saving and loading of fitted models, with atomic writes and validation.

:mod:`~modalign.model.persistence.models` writes and reads a folder. :mod:`~modalign.model.persistence.state` converts
the learned state of a method to entries and arrays. :mod:`~modalign.model.persistence.checks` validates what was read.
:mod:`~modalign.model.persistence.description` has the entries that a :class:`~modalign.Classifier` adds to its method.
"""

from modalign.model.persistence.checks import check_scores
from modalign.model.persistence.description import Description
from modalign.model.persistence.models import FORMAT, check_destination, load_model, save_model

__all__ = ["FORMAT", "Description", "check_destination", "check_scores", "load_model", "save_model"]
