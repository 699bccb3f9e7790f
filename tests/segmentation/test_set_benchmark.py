"""The segmentation protocol on small data sets in the published layout: rows, resumption, page and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError, UnknownNameError
from modalign.evaluate.masks import set_benchmark
from modalign.evaluate.masks.set_benchmark import run_segmentation_benchmark
from modalign.segmentation.sets.segmentation_sets import segmentation_set


def small_set(root: Path, name: str, n: int = 2) -> None:
    """Photos of noise and masks of two classes, in every part of a data set."""
    row, rng = segmentation_set(name), np.random.default_rng(0)
    for part in row.parts:
        names = [f"2008_00000{i}" for i in range(n)]
        for each in names:
            keys = {"part": part, "id": each, "group": "aachen"}
            photo, mask = root / row.images.format(**keys), root / row.truths[0][0].format(**keys)
            for path in (photo, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(photo)
            Image.fromarray(rng.integers(1, 3, (40, 56), dtype=np.uint8)).save(mask)
        if row.lists:
            path = root / row.lists.format(part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    small_set(folder, "voc20")
    return folder


@pytest.fixture(scope="module")
def encoder() -> ma.Encoder:
    return ma.load_encoder("tiny", dtype="float32")


def test_rows_are_those_of_single_runs_and_a_record_is_not_measured_again(root, encoder, tmp_path, monkeypatch) -> None:
    record = tmp_path / "runs.jsonl"
    asked = {"encoder": encoder, "features": ["clip", "sclip"], "datasets": ["voc20"], "record": record}
    found = run_segmentation_benchmark(root, **asked)
    assert [(row.dataset, row.features, row.mapped) for row in found.rows] == [
        ("voc20", "clip", False), ("voc20", "sclip", False),
    ]  # fmt: skip
    alone = set_benchmark.run_segmentation_set("voc20", root, encoder=encoder, features=["sclip"])[0]
    assert list(found.rows[1].cells) == alone.cells
    assert found.rows[1].result["scores"] == json.loads(json.dumps(alone.scores.as_dict()))
    assert "49.1" in found.rows[0].cells[4]
    assert "not comparable" in found.rows[0].cells[5]

    def never(*args, **kwargs):
        raise AssertionError("measured again")

    with record.open("ab") as file:
        file.write(b'{"format": "modalign-segm')  # of a run that was killed while it wrote
    with monkeypatch.context() as patched:
        patched.setattr(set_benchmark, "run_segmentation_set", never)
        with pytest.warns(UserWarning, match="no complete runs"):
            again = run_segmentation_benchmark(root, **asked)
    assert again.table == found.table
    more = run_segmentation_benchmark(root, **asked | {"features": ["clip", "clearclip"]})
    assert [row.features for row in more.rows] == ["clip", "clearclip"]


def test_what_cannot_be_measured_is_a_row_with_its_reason_and_is_tried_again(root, encoder, tmp_path) -> None:
    record = tmp_path / "runs.jsonl"
    found = run_segmentation_benchmark(root, encoder=encoder, features=["clip"], datasets=["ade20k"], record=record)
    assert found.rows[0].cells[2] == "–"
    assert "ADE" in found.rows[0].cells[5]
    assert not record.exists() or not record.read_text()


def test_bad_requests_are_refused_before_any_work(root, encoder, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="features"):
        run_segmentation_benchmark(root, encoder=encoder, features=["gda"])
    with pytest.raises(UnknownNameError):
        run_segmentation_benchmark(root, encoder=encoder, datasets=["voc19"])
    with pytest.raises(InputError, match="absent' is none"):
        run_segmentation_benchmark(tmp_path / "absent", encoder=encoder)
    with pytest.raises(InputError, match="none that is complete"):
        run_segmentation_benchmark(tmp_path, encoder=encoder)
    (tmp_path / "other.jsonl").write_text('{"format": "modalign-bench-1"}\n')
    with pytest.raises(InputError, match="another name"):
        run_segmentation_benchmark(
            root, encoder=encoder, datasets=["voc20"], features=["clip"], record=tmp_path / "other.jsonl"
        )


def test_the_command_prints_the_table_and_writes_the_page(root, tmp_path) -> None:
    page = tmp_path / "page.html"
    asked = ["bench", str(root), "--protocol", "segmentation", "--methods", "clip", "--datasets", "voc20"]
    done = CliRunner().invoke(app, [*asked, "--page", str(page), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["features"] for row in rows] == ["clip"]
    assert "VOC" in page.read_text()
    assert str(root) not in page.read_text()
    for words, named in (([str(root), "--protocol", "segmentation,few-shot"], "by itself"),
                         (["digits", "--gpua", "tiny-vision"], "--protocol segmentation")):  # fmt: skip
        refused = CliRunner().invoke(app, ["bench", *words])
        assert isinstance(refused.exception, InputError)
        assert named in str(refused.exception)
