"""Prompt lint finds what it should and keeps quiet otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modalign.core.errors import InputError
from modalign.data.text.lint import lint, lint_notes

BANK = Path(__file__).parents[2].parent / "shared" / "data" / "clip-vitb32" / "text_bank.npz"


def kinds(names: list[str], **options: object) -> dict[tuple[str, ...], str]:
    return {finding.names: finding.kind for finding in lint(names, **options)}


def test_ordinary_names_raise_nothing() -> None:
    assert lint(["cat", "dog", "car", "cap", "grand_piano", "airplane", "two", "10 euro note", "Boeing 747"]) == []


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["Sea_Horse", "sea horse"], "same"),
        (["cat", "cats"], "similar"),
        (["wheel chair", "wheelchair"], "similar"),
        (["accordion", "acordion"], "similar"),
        (["butterfly", "buttarfly"], "similar"),
        (["crocodile", "crocodile_head"], "contained"),
        (["piano", "grand piano stool"], "contained"),
    ],
)
def test_pairs(names: list[str], kind: str) -> None:
    assert list(kinds(names).values()) == [kind]
    assert list(kinds([*names[::-1], "unrelated"]).values()) == [kind]


@pytest.mark.parametrize(
    "names", [["cat", "cathedral"], ["cat", "bat"], ["Boeing 737-200", "Boeing 737-300"], ["bus", "bush"]]
)
def test_pairs_that_are_no_pairs(names: list[str]) -> None:
    assert lint(names) == []


@pytest.mark.parametrize(
    "name",
    ["0", "17", "c12", "class_3", "Label 7", "3.1", "X-7", "n01440764", "cls_0002", "001.Black_footed_Albatross",
     "3f2a9c01b"],
)  # fmt: skip
def test_codes(name: str) -> None:
    assert [finding.kind for finding in lint([name, "cat"])] == ["code"]
    (note,) = lint_notes(["cat", name])
    assert note.startswith(f"class names '{name}' look like numbers or codes")
    assert "classes=" in note


def test_numbers_are_words_where_the_sentence_is_about_digits() -> None:
    assert lint_notes(["0", "1"], numbers=True) == ()
    assert len(lint_notes(["0", "c1"], numbers=True)) == 1


def test_one_note_per_kind() -> None:
    names = ["cat", "cats", "car", "cars", "bar", "bars", "piano", "pianos", "grand piano", "7", "8", "9", "10"]
    codes, similar, contained = lint_notes(names)
    assert "'7', '8', '9' and 1 more" in codes
    assert "'cat' and 'cats'" in similar
    assert "1 more pairs" in similar
    assert "'piano' and 'grand piano'" in contained


def test_the_contained_name_comes_first() -> None:
    (finding,) = lint(["crocodile head", "crocodile"])
    assert finding.names == ("crocodile", "crocodile head")
    assert str(finding).startswith("'crocodile' is part of 'crocodile head'")


def test_vectors_detect_names_of_one_meaning() -> None:
    vectors = np.array([[1.0, 0, 0], [0, 3, 0], [0, 2.9, 0.5]])
    assert kinds(["sofa", "cat", "feline"], vectors=vectors) == {("cat", "feline"): "meaning"}
    assert lint(["sofa", "cat", "feline"], vectors, threshold=0.99) == []
    several = np.stack([vectors, np.zeros_like(vectors)], axis=1)
    assert kinds(["sofa", "cat", "feline"], vectors=several) == {("cat", "feline"): "meaning"}


def test_a_pair_is_reported_once() -> None:
    assert list(kinds(["cat", "cats"], vectors=np.ones((2, 4))).values()) == ["similar"]


def test_vectors_of_another_shape() -> None:
    with pytest.raises(InputError, match=r"\(2, d\)"):
        lint(["a", "b"], np.ones((3, 4)))


def test_braces_in_a_name_are_text() -> None:
    assert lint(["{0} x", "{0}_x"])[0].names == ("{0} x", "{0}_x")


@pytest.mark.skipif(not BANK.is_file(), reason="needs ../shared/data/clip-vitb32/text_bank.npz")
def test_two_thousand_real_names() -> None:
    with np.load(BANK) as bank:
        found = {f.names: f.kind for f in lint(bank["names"].tolist(), bank["vectors"].astype(np.float32))}
    assert found["bottle cap", "bottlecap"] == "similar"
    assert found["clock", "alarm clock"] == "contained"
    assert found["alcohol", "liquor"] == "meaning"
