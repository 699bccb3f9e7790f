"""Search finds the nearest images of a sentence and of an image, and refuses queries that it cannot answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modalign import cli, load_encoder
from modalign.audit.searching import search_images
from modalign.core.errors import EncoderMismatchError, InputError
from modalign.core.features import Features
from modalign.data.digits import DIGIT_NAMES, load_digits
from modalign.data.items import Items


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(400))


@pytest.fixture(scope="module")
def vectors(digits: Items) -> Features:
    return load_encoder("tiny", cache=False).embed_images(digits)


@pytest.mark.parametrize("name", DIGIT_NAMES)
def test_a_sentence_finds_its_digit(name: str, vectors: Features) -> None:
    found = search_images(vectors, f"a photo of the digit {name}.", top=10)
    assert sum(hit.label == name for hit in found.hits) >= 9
    assert found.by == "text"


def test_hits_are_the_largest_cosines_in_order(digits: Items, vectors: Features) -> None:
    picture = digits.open(7)
    found = search_images(vectors, picture, top=25)
    cosines = vectors.vectors @ vectors.vectors[7]
    order = np.argsort(-cosines, kind="stable")[:25]
    assert [hit.id for hit in found.hits] == [vectors.ids[i] for i in order]
    np.testing.assert_allclose([hit.cosine for hit in found.hits], cosines[order], atol=1e-5)
    assert found.hits[0].id == digits.ids[7]
    assert len(search_images(vectors, picture, top=10**6).hits) == len(vectors)


def test_queries_that_cannot_be_answered(vectors: Features, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    for query, words in (
        (" ", "a sentence"),
        ("no/such.jpg", "does not exist"),
        (str(tmp_path / "bad.png"), "decoded"),
    ):
        with pytest.raises(InputError, match=words):
            search_images(vectors, query)
    with pytest.raises(InputError, match="images and text"):
        search_images(vectors, "three", encoder="tiny-vision")
    with pytest.raises(InputError, match="encoder="):
        search_images(replace(vectors, spec=None), "three")
    with pytest.raises(EncoderMismatchError):
        search_images(vectors, load_digits().open(0), encoder="tiny-vision")
    with pytest.raises(InputError, match="top="):
        search_images(vectors, "three", top=0)
    with pytest.raises(InputError, match=r"width .* got width 7"):
        search_images(Features(vectors.vectors[:, :7]), "three", encoder="tiny")
    for odd in (np.nan, np.inf):
        spoiled = vectors.vectors.copy()
        spoiled[3, 4] = odd
        with pytest.raises(InputError, match="finite vectors"):
            search_images(replace(vectors, vectors=spoiled), "three")


def test_the_lengths_of_vectors_do_not_count(vectors: Features) -> None:
    lengths = np.geomspace(1e-20, 1e15, len(vectors))[:, None].astype(np.float32)
    found = search_images(replace(vectors, vectors=vectors.vectors * lengths), "three", top=5)
    expected = search_images(vectors, "three", top=5)
    assert [hit.id for hit in found.hits] == [hit.id for hit in expected.hits]
    np.testing.assert_allclose([h.cosine for h in found.hits], [h.cosine for h in expected.hits], atol=1e-5)


def test_the_command_prints_and_writes_a_page(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    page = tmp_path / "page.html"
    query = "<b>a photo of a disc."
    assert cli.run(["search", str(photos), query, "--top", "3", "--page", str(page), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["query"] == query
    assert [hit["cosine"] for hit in content["hits"]] == sorted((h["cosine"] for h in content["hits"]), reverse=True)
    html = page.read_text(encoding="utf-8")
    assert "<b>a photo" not in html
    assert html.count("data:image") == 3
    assert cli.run(["search", str(photos), str(photos / "disc" / "0.png"), "--top", "1"]) == 0
    said = capsys.readouterr()
    assert "disc/0.png" in said.out
    assert "made for drawings" in said.err


def test_digits_are_searched_without_a_note(
    vectors: Features, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    for features, noted in ((vectors, False), (replace(vectors, class_names=(), labels=np.full(400, -1)), True)):
        features.save(tmp_path / "vectors.npz")
        assert cli.run(["search", str(tmp_path / "vectors.npz"), "a photo of the digit three."]) == 0
        assert ("made for drawings" in capsys.readouterr().err) is noted


def test_what_embed_wrote_is_searched_and_audited_in_all_its_forms(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    pytest.importorskip("pyarrow")
    forms = {"v.npz": (), "v.safetensors": (), "parts": ("--shards", "2", "--dtype", "float32")}
    found = []
    for name, options in forms.items():
        out = str(tmp_path / name)
        assert cli.run(["embed", str(photos), "--out", out, *options]) == 0
        capsys.readouterr()
        assert cli.run(["search", out, "a photo of a disc.", "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert cli.run(["audit", out, "--json"]) == 0
        found.append(([hit["id"] for hit in hits], json.loads(capsys.readouterr().out)["counts"]))
    assert found[0] == found[1] == found[2]


def test_a_folder_of_vectors_needs_shards(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    assert cli.run(["embed", str(photos), "--out", str(tmp_path / "features")]) == 2
    assert "or --shards with a folder of parts" in capsys.readouterr().err
    assert not (tmp_path / "features").exists()
