"""Every test draws the same numbers, and shapes in annotations are checked whenever a test calls a function."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import numpy as np
import pytest
import torch
from checked_annotations import check_annotations

from modalign import linalg

for found in pkgutil.iter_modules(linalg.__path__):
    check_annotations(import_module(f"modalign.linalg.{found.name}"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
