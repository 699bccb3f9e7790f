"""Warnings of compared methods are reported once, with the methods, also from other processes."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from modalign.core.errors import hyperparameter, options
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.evaluate import parallel_runs
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.comparison import schedule as plan
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.comparison.findings import title
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.measuring import measured
from modalign.evaluate.publications.shapes.table_runs import TableRuns
from modalign.evaluate.runs import RunWarning
from modalign.evaluate.sealed import SealedLabels

NAMES = ("cat", "dog", "elk", "fox")


def collapsing() -> tuple[Features, ClassText]:
    """Four classes whose images all resemble the text of the first most."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 12)
    X = np.eye(4, 16)[y] * 0.2 + np.eye(1, 16, 8) + 0.05 * rng.normal(size=(48, 16))
    text = np.eye(4, 16) * 0.2 + np.eye(1, 16, 8) * np.array([[1.0], [0.0], [0.0], [0.0]])
    X, text = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (X, text))
    spec = EncoderSpec("mine", "f" * 64, 16, logit_scale=50.0)
    features = Features(X.astype(np.float32), tuple(map(str, range(48))), y, NAMES, spec=spec)
    return features, ClassText(text.astype(np.float32), NAMES, spec=spec)


def run(jobs: int = 1) -> tuple[MethodComparison, list[warnings.WarningMessage]]:
    features, text = collapsing()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compare(features, text=text, methods=("zero_shot", "fair_vectors"), shots=(0,), seeds=2, jobs=jobs)
    return found, caught


@pytest.fixture(scope="module")
def alone() -> tuple[MethodComparison, list[warnings.WarningMessage]]:
    return run()


def test_one_warning_and_one_remark_with_the_methods(alone) -> None:
    found, caught = alone
    warned = [run for run in found.runs if run.warnings]
    assert {run.method.partition(":")[0] for run in warned} == {"fair_vectors"}
    assert len(warned) > 2
    told = [str(w.message) for w in caught if w.category is RunWarning]
    assert not [w for w in caught if w.category is UserWarning]
    assert told == [remark for remark in found.remarks if "pseudo-labels fall on" in remark]
    assert len(told) == 1
    assert told[0].startswith("FAIR on vectors (2 runs), ")
    assert all(w.filename == __file__ for w in caught if w.category is RunWarning)
    again = MethodComparison.from_dict(found.as_dict())
    assert again.remarks == found.remarks == found.as_dict()["remarks"]


def test_the_legend_explains_the_marks_that_the_table_has(alone) -> None:
    found = alone[0]
    for result in (found, replace(found, runs=tuple(r for r in found.runs if r.method == "zero_shot"))):
        cells = "".join(cell for row in result.rows for cell in row[1:])
        assert [mark in result.legend for mark in "±+"] == [mark in cells for mark in "±+"]
    assert result.legend == ""


def test_rows_of_tables_that_share_a_run_count_it_once(alone) -> None:
    warned = next(run for run in alone[0].runs if run.warnings)
    row = BenchmarkRun("transductive", "mine", "test", "features", "default", None, None, True, 0.0, warned)
    (note,) = TableRuns((row, row), {}).notes
    assert note == f"{title(warned.method)} (1 run): {warned.warnings[0]}"


def test_other_processes_have_equal_results_and_print_nothing(
    alone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(plan, "CELLS_A_JOB", 1)
    found, caught = run(jobs=2)
    assert [str(w.message) for w in caught] == [str(w.message) for w in alone[1]]
    assert [run.warnings for run in found.runs] == [run.warnings for run in alone[0].runs]
    assert "Warning" not in capfd.readouterr().err


class Refusing:
    """A cell whose message shows how a worker names options."""

    def run(self, _: object) -> str:
        return hyperparameter("steps")


def test_messages_of_a_worker_name_options_like_those_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, spoken in ((None, "steps=…"), ({"hyperparameters": "--set METHOD."}, "--set METHOD.steps=…")):
        monkeypatch.setattr(parallel_runs, "_own", [(Refusing(), names)])
        with options({"hyperparameters": "not this "}):
            assert parallel_runs._run(None) == spoken


def test_other_warnings_take_their_usual_way() -> None:
    class Method:
        def get_params(self, deep: bool = True) -> dict[str, object]:
            return {}

    class TestPart:
        test = np.arange(2)
        notes = ()

    def learn() -> None:
        warnings.warn("for the user", stacklevel=1)
        warnings.warn("for\nthe user", stacklevel=1)
        warnings.warn("for the maker", DeprecationWarning, stacklevel=1)

    known = {"seed": 0, "shots": 1, "n_train": 2, "n_validation": 0, "protocol": "", "features": ""}
    with pytest.warns(DeprecationWarning, match="for the maker") as caught:
        made = measured("m", Method(), learn, lambda: [0, 1], TestPart(), SealedLabels([0, 1]), **known)
    assert made.warnings == ("for the user",)
    assert len(caught) == 1
