"""Paths in Python: ``~`` is the home folder in everything that reads or writes, and other types get a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import draw

import modalign as ma
from modalign.core.files import local_path, plain_path

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with photos; the current folder is another one, which is empty."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    draw(tmp_path / "home" / "photos", per_class=2)
    return tmp_path / "home"


def test_the_home_folder_is_read_and_written(home: Path) -> None:
    items = ma.load_items("~/photos")
    assert len(items) == 4
    model = ma.adapt("~/photos", method="zero_shot", mirror=False)
    assert model.save("~/model") == home / "model"
    assert ma.load("~/model").predict("~/photos/disc/0.png").save("~/a.csv") == home / "a.csv"
    for ending in ("npz", "safetensors"):
        assert ma.Features(np.eye(2)).save(f"~/f.{ending}") == home / f"f.{ending}"
        assert len(ma.Features.load(f"~/f.{ending}")) == len(ma.Features.open(Path(f"~/f.{ending}"))) == 2
    split = ma.few_shot(items, shots=1)
    assert ma.Split.load(split.save("~/split.json", items), items).train.tolist() == split.train.tolist()
    assert not list(Path().iterdir())


def test_a_file_whose_name_begins_with_a_tilde_is_itself(home: Path) -> None:
    Path("~").mkdir()
    assert local_path("~") == Path("~")
    assert local_path("~nobody.csv") == Path("~nobody.csv")
    assert plain_path("https://example.org/~a") == "https://example.org/~a"


@pytest.mark.parametrize("path", [None, 3, b"photos", [], ""])
def test_what_is_no_path_is_refused_in_one_sentence(path: Any, home: Path) -> None:
    features = ma.Features(np.eye(2))
    for call in (ma.load, ma.Features.load, ma.Features.open, ma.load_encoder, features.save):
        with pytest.raises(ma.InputError, match=r"^Expected "):
            call(path)
    if path != b"photos":  # bytes of one image
        with pytest.raises(ma.InputError):
            ma.load_items(path)
    assert not list(Path().iterdir())
