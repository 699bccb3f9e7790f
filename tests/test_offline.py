"""A stranger's file reaches no network, and a file that is given away tells nothing of its owner's folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError, ModalignError
from modalign.core.features import Features
from modalign.encoders.catalog import EMBEDDED
from modalign.report.evaluation import save_evaluation_page

NAMES = ["some-stranger/clip", "tiny+org/x", "org/x@refs/pr/1", "org/x@main+tiny"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from modalign.data.digits import load_digits

    encoder = ma.load_encoder("tiny", cache=False, dtype="float32")
    return ma.adapt(load_digits().select(range(40)), encoder=encoder, method="zero_shot").save(
        tmp_path_factory.mktemp("model") / "m"
    )


@pytest.fixture
def renamed(model: Path, tmp_path: Path) -> Path:
    """A copy whose card may be given another name of its encoder."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def name_encoder(folder: Path, name: str) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["classifier"]["encoder"]["name"] = name
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", NAMES)
def test_a_model_makes_no_request(name: str, renamed: Path, photos: Path, no_network: list) -> None:
    name_encoder(renamed, name)
    with pytest.raises(ModalignError, match="nothing is fetched for a name in a file; give encoder="):
        ma.load(renamed)
    for command in ("predict", "evaluate"):
        result = CliRunner().invoke(app, [command, str(renamed), str(photos)])
        assert f"give --encoder '{name}' to fetch it" in str(result.exception)
    assert ma.load(renamed, encoder="tiny").predict(photos).ids


@pytest.mark.parametrize("name", NAMES)
def test_a_features_file_makes_no_request(name: str, tmp_path: Path, no_network: list) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    vectors = rng.normal(size=(60, 8)).astype(np.float32) + 3 * np.eye(3, 8)[labels]
    spec = replace(ma.load_encoder("tiny", cache=False).spec, name=name, dim=8, fingerprint="f" * 64)
    path = Features(vectors, labels=labels, class_names=("a", "b", "c"), spec=spec).save(tmp_path / "f.npz")
    with pytest.raises(InputError, match="nothing is fetched for a name in a file"):
        ma.compare(path, methods=["linear_probe"], shots=[2], seeds=1)
    assert ma.compare(path, text=False, methods=["linear_probe"], shots=[2], seeds=1, ablations=False)


def test_what_is_given_away_holds_no_path(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "alice" / "secret" / "enc"
    shutil.copytree(EMBEDDED["tiny"], folder)
    (photos / "broken.png").write_bytes(b"no image")
    model = ma.adapt(photos, encoder=str(folder), method="zero_shot")
    card = (model.save(tmp_path / "model") / "card.json").read_text()
    features = model.encoder.embed_images(photos).save(tmp_path / "f.npz")
    page = tmp_path / "page.html"
    save_evaluation_page(model, model.evaluate(photos, include_fitted=True), page)
    with np.load(features) as file:
        written = card + page.read_text() + "".join(str(file[name]) for name in file)
    assert "enc" in written
    assert str(tmp_path) not in written
    assert "secret" not in written
    assert ma.load(tmp_path / "model").encoder.spec.fingerprint == model.encoder.spec.fingerprint
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(ModalignError, match="or the path of its folder"):
        ma.load(tmp_path / "model")
    assert ma.load(tmp_path / "model", encoder=str(folder)).class_names == model.class_names
