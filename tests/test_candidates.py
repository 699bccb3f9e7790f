"""The candidates of an automatic choice as shown to users: on the terminal, in the record of a model, on its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError
from modalign.evaluate.candidates import HEADER, candidate_rows, unfinished
from modalign.report.evaluation import save_evaluation_page


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", cache=False)


@pytest.fixture
def fitted(photos: Path, encoder) -> ma.Classifier:
    return ma.adapt(photos, encoder=encoder, candidates=["anchored_gaussian", "gda"], validation="cross")


def test_every_candidate_has_a_row_and_a_dash_for_what_was_not_finished(fitted: ma.Classifier) -> None:
    rows = fitted.record["candidates"]
    assert [row["name"] for row in rows] == ["zero_shot", "anchored_gaussian", "gda"]
    assert sum(row["weight"] for row in rows) == pytest.approx(1, abs=0.01)
    missed = {"name": "cmm", "accuracy": None, "log_loss": None, "weight": 0.0, "seconds": 3.04}
    shown = candidate_rows([*rows, missed])
    assert all(len(row) == len(HEADER) for row in shown)
    assert shown[-1] == ["cmm", "–", "–", "", "3.0"]
    assert candidate_rows([missed | {"seconds": 0.0}]) == [["cmm", "–", "–", "", ""]]
    assert shown[0][1] == f"{100 * rows[0]['accuracy']:.1f}"
    assert unfinished(rows) is None
    note = unfinished([*rows, missed])
    assert note is not None
    assert "in the time of the fit: cmm; --time" in note
    unjudged = [row | {"accuracy": None, "log_loss": None} for row in rows]  # as without labels
    assert unfinished(unjudged) is None
    assert "the fit: gda; --time" in str(unfinished(unjudged, "gda, cmm"))


def test_the_page_of_a_loaded_model_lists_the_candidates(
    fitted: ma.Classifier, photos: Path, encoder, tmp_path
) -> None:
    again = ma.load(fitted.save(tmp_path / "model"), encoder=encoder)
    result = again.evaluate(photos, include_fitted=True)
    page = save_evaluation_page(again, result, tmp_path / "page.html").read_text()
    assert "3 candidates" in page
    assert all(name in page for name in ("anchored_gaussian", "gda", "log-loss"))


def test_a_record_with_other_candidates_is_refused(fitted: ma.Classifier, encoder, tmp_path) -> None:
    folder = fitted.save(tmp_path / "model")
    card = json.loads((folder / "card.json").read_text())
    card["classifier"]["record"]["candidates"][0]["weight"] = "half"
    del card["digest"]
    (folder / "card.json").write_text(json.dumps(card | {"format": "modalign-model/1"}))
    with pytest.raises(InputError, match="candidates"):
        ma.load(folder, encoder=encoder)


def test_fit_prints_the_candidates(photos: Path, tmp_path, own_cache) -> None:
    done = CliRunner().invoke(app, ["fit", str(photos), "--time", "1", "--out", str(tmp_path / "model")])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("candidate "))
    assert lines[start + 1].startswith("zero_shot")
    assert lines[start + 2].startswith("anchored_gaussian")
