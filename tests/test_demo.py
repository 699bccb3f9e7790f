"""The demonstration, shortened: every kind of method, one page, a table whose sentence is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalign.cli import demo


def test_the_demonstration_in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "SHOTS", (2,))
    monkeypatch.setattr(demo, "METHODS", ("zero_shot", "gpua", "cmm"))
    monkeypatch.setattr(demo, "TOWER_SETTINGS", demo.TOWER_SETTINGS | {"epochs": 1})
    found = demo.run_demo(tmp_path / "page.html", seeds=2)
    assert [(row.method, row.shots) for row in found.table] == [
        ("Zero-shot CLIP", 0),
        ("GPUA", 0),
        ("CMM", 2),
        ("MaPLe", 2),
    ]
    assert len(found.runs) == 8
    assert len({run.test for run in found.runs}) == 1  # all are tested on the same images
    by_name = {row.method: row.accuracy.mean for row in found.table}
    assert by_name["GPUA"] > by_name["Zero-shot CLIP"] > 0.75
    assert "Without labels GPUA classifies" in found.sentence
    assert found.rows[-1] == ["Chance level", "", "10.0 %", "", ""]
    page = (tmp_path / "page.html").read_text()
    assert "MaPLe" in page
    assert "<svg" in page
    assert page.count("hance level") >= 4  # the facts, the table, the curves and the accuracy per class
    assert "none of these images is shown here" in page
    assert "Masks of objects" in page
    best = max(found.table, key=lambda row: row.accuracy.mean)
    assert ("no method with labels does better" in found.sentence) == (best.shots == 0)
