"""What earlier versions saved and exported still gives the answers that it gave; scripts/make_golden.py writes it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalign import Classifier, load
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.export.onnx_folder import FORMAT as GRAPH
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.model.multi_label.multi_label_files import FORMAT as SETS
from modalign.model.persistence.models import FORMAT as MODEL

GOLDEN = Path(__file__).with_name("golden")
LARGEST = 61_440  # bytes of a folder
NAMES = sorted(path.name for path in GOLDEN.iterdir())
TOLERANCE = 2e-4  # other versions of torch, onnxruntime and Pillow round otherwise


def told(folder: Path) -> tuple[dict[str, Any], Items]:
    """The answers of that time, and the digits that were asked."""
    answers = json.loads((folder / "answers.json").read_text())
    return answers, load_digits().select(range(*answers["asked"]))


def test_the_present_formats_are_among_them() -> None:
    present = {f"{MODEL.family}-{MODEL.version}", f"{SETS.family}-{SETS.version}", GRAPH}
    assert present <= set(NAMES)
    assert all(sum(file.stat().st_size for file in (GOLDEN / name).iterdir()) <= LARGEST for name in NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(MODEL.family)])
def test_saved_models_answer_as_they_did(name: str) -> None:
    answers, digits = told(GOLDEN / name)
    model = load(GOLDEN / name)
    assert isinstance(model, Classifier)
    found = model.predict(digits, reject=answers["reject"])
    assert list(found.class_names) == answers["classes"]
    assert np.abs(found.probabilities - answers["probabilities"]).max() < TOLERANCE
    assert found.rejected is not None
    assert found.rejected.tolist() == answers["rejected"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(SETS.family)])
def test_saved_multi_label_models_answer_as_they_did(name: str) -> None:
    answers, digits = told(GOLDEN / name)
    model = load(GOLDEN / name)
    assert isinstance(model, MultiLabelClassifier)
    found = model.predict(digits)
    assert list(found.class_names) == answers["classes"]
    assert np.abs(found.probabilities - answers["probabilities"]).max() < TOLERANCE
    assert found.answers.tolist() == answers["answers"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(GRAPH.rpartition("-")[0])])
def test_exported_folders_answer_as_they_did(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the graph is run by onnxruntime")
    answers, digits = told(GOLDEN / name)
    photos = [tmp_path / f"{i}.png" for i in range(len(digits))]
    for i, photo in enumerate(photos):
        photo.write_bytes(digits.read(i))
    program = GOLDEN / name / "predict.py"
    monkeypatch.setattr(sys, "argv", [str(program), *map(str, photos), "--reject", str(answers["reject"])])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert not ended.value.code
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == [name for name, _ in answers["printed"]]
    assert "none of these" in {name for name, _ in answers["printed"]}
    differences = [
        abs(float(line[2]) - float(known)) for line, (_, known) in zip(lines, answers["printed"], strict=True)
    ]
    assert max(differences) < 2 * TOLERANCE
