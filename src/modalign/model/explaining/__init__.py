"""Why a classifier answers as it does: patch maps, nearest labeled images, sentences, and a test of the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalign.core.lazy import lazily

_HOME = {
    "DeletionTest": "deletion",
    "run_deletion_test": "deletion",
    "explained": "explaining",
    "Explanation": "explanation",
}

if TYPE_CHECKING:
    from modalign.model.explaining.deletion import DeletionTest as DeletionTest
    from modalign.model.explaining.deletion import run_deletion_test as run_deletion_test
    from modalign.model.explaining.explaining import explained as explained
    from modalign.model.explaining.explanation import Explanation as Explanation

__all__ = [*_HOME]
__getattr__, __dir__ = lazily(__name__, _HOME)
