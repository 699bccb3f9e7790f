"""What is called peak memory is the peak, and only what the block itself took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modalign.evaluate import peak_memory as memory
from modalign.evaluate.peak_memory import PeakMemory

MB = 2**20


def measured(peak: PeakMemory) -> int:
    if peak.bytes is None:
        pytest.skip("this system does not let a process set its memory mark back")
    return peak.bytes


def test_what_was_freed_before_the_end_counts_and_numpy_counts_like_torch() -> None:
    for allocate in (lambda: np.ones(100 * MB, dtype=np.uint8), lambda: torch.ones(25 * MB)):
        with PeakMemory() as peak:
            block = allocate()
            del block
        assert 95 * MB < measured(peak) < 140 * MB


def test_what_others_took_before_does_not_count() -> None:
    before = np.ones(100 * MB, dtype=np.uint8)
    with PeakMemory() as peak:
        small = np.ones(40 * MB, dtype=np.uint8)  # above the size that malloc keeps ready
    assert 36 * MB < measured(peak) < 80 * MB
    assert len(before) > len(small)


def test_an_error_inside_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError), PeakMemory():
        1 / 0  # noqa: B018


def test_where_there_is_no_mark_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "no such folder" / "clear_refs")
    with PeakMemory() as peak:
        pass
    assert peak.bytes is None
