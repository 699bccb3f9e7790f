"""Why a classifier answers as it does: patch maps, nearest labeled images, sentences, and a test of the maps."""

from modalign.model.explaining.deletion import DeletionTest, run_deletion_test
from modalign.model.explaining.explaining import explained
from modalign.model.explaining.explanation import Explanation

__all__ = ["DeletionTest", "Explanation", "explained", "run_deletion_test"]
