"""Progress bars: one display for those that run inside each other, and nothing where they are hidden."""

from __future__ import annotations

import pytest

from modalign.core import progress
from modalign.core.progress import track


def test_bars_inside_each_other_are_lines_of_one_display(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    with progress.progress(True):
        for _ in track(range(2), "rows"):
            for _ in track([1, 2, 3], "runs"):
                bars = progress._shown.get()
                assert bars is not None
                shown.append((id(bars), [(task.description, task.total, task.completed) for task in bars.tasks]))
            stopped = track([1, 2], "epochs")
            next(stopped)
            stopped.close()
            assert [task.description for task in bars.tasks] == ["rows"]
    assert progress._shown.get() is None
    assert len({display for display, _ in shown}) == 1
    assert [lines for _, lines in shown] == [
        [("rows", 2, row), ("runs", 3, run)] for row in range(2) for run in range(3)
    ]
    assert capsys.readouterr().out == ""


def test_hidden_bars_only_pass_the_steps_on(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress(False):
        assert list(track(iter("ab"), "letters")) == ["a", "b"]
        assert progress._shown.get() is None
    assert capsys.readouterr() == ("", "")
