"""The bench of few labels: a run that was stopped goes on, and the tables hold every figure once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import few_shot
from bench.accuracy import Dataset
from bench.few_shot import Cell, Row, measure
from bench.few_shot_tables import STUDIES, tables, written_by_hand
from bench.resuming import Record


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    centers = np.eye(3, 8, dtype=np.float32)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(3 * count) % 3
        X = centers[y] + 0.2 * rng.normal(size=(len(y), 8)).astype(np.float32)
        return X / np.linalg.norm(X, axis=1, keepdims=True), y

    parts = {"shots2": images(2), "val": images(4), "test": images(9)}
    return Dataset("drawn", parts, centers, ("a", "b", "c"), {})


def test_a_run_that_was_stopped_goes_on(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the record has is not fitted again, not even after a line that was cut short, and other cells are others."""
    path, fitted = tmp_path / "results" / "few.jsonl", []
    original = few_shot.fit_and_mark
    monkeypatch.setattr(few_shot, "fit_and_mark", lambda cell, seed: fitted.append(seed) or original(cell, seed))
    cell = Cell(data, text=True, validation=True, shots=2, method="gda")
    first = measure(cell, 2, Record(path))
    assert fitted == [0, 1]
    path.write_bytes(path.read_bytes() + b'{"run": {"data"')
    measure(cell, 3, Record(path))
    assert fitted == [0, 1, 2]
    assert measure(cell, 2, Record(path)) == first
    measure(Cell(data, text=True, validation=False, shots=2, method="gda"), 1, Record(path))
    assert fitted == [0, 1, 2, 0]


def test_tables_hold_every_figure_under_its_method_and_shots() -> None:
    rows = [
        Row(
            dataset="drawn",
            text=text,
            validation=True,
            shots=shots,
            method=method,
            top1=50.0 + shots + len(method),
            half_width=0.5,
            zero_shot=60.0 if text else None,
            calibration_error=2.5,
            seconds=1.5,
            wall=3.5,
            chosen="",
            not_tried="",
            required=61,
        )
        for text in (True, False)
        for shots in (1, 16)
        for method in ("gda", "zero_shot")
    ]
    page = tables(rows, "a protocol", "a machine")
    assert "wall seconds" not in page  # which only `auto` has
    timed = tables([replace(row, method="auto") for row in rows], "a protocol", "a machine")
    assert timed.count("| wall seconds, longest of the seeds | 1 | 16 |") == 2
    assert timed.count("| auto | 3.5 | 3.5 |") == 2
    assert page.count("| gda | 54.0 ± 0.5 ✗ | 69.0 ± 0.5 |") == 2
    assert page.count("| accuracy | 1 | 16 |") == page.count("| seconds | 1 | 16 |") == 2
    assert "## drawn, with text, with validation images" in page
    assert page.count("Zero-shot: 60.0") == 1
    assert "a protocol" in page
    assert "a machine" in page


def test_what_is_written_by_hand_stays_when_the_page_is_made_again() -> None:
    page = tables([], "a protocol", "a machine") + STUDIES + "\nA finding.\n"
    assert page == tables([], "a protocol", "a machine") + written_by_hand(page)
    assert written_by_hand(tables([], "a protocol", "a machine")) == ""
