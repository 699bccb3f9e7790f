"""Names as users give them, and their vectors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError, UnknownNameError
from modalign.data.text.templates import IMAGENET_80
from modalign.segmentation.class_words import read_class_words, read_templates, text_vectors

SPOKEN = (("cat",), ("grass", "lawn"), ("sky",))


def test_a_text_a_list_and_a_file_are_equivalent(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\ngrass, lawn\nsky\n")
    found = [read_class_words(given) for given in ("cat; grass, lawn; sky", ["cat", ("grass", "lawn"), "sky"], file)]
    assert [words.words for words in found] == [SPOKEN] * 3
    assert {words.sha256 for words in found} == {hashlib.sha256(file.read_bytes()).hexdigest()}
    assert read_class_words(str(file)).words == SPOKEN
    assert found[0].names == ("cat", "grass", "sky")
    assert found[0].all_words == ("cat", "grass", "lawn", "sky")
    assert found[0].owner.tolist() == [0, 1, 1, 2]


def test_background_is_class_zero_and_part_of_the_digest() -> None:
    plain, other = read_class_words(["cat", "dog"]), read_class_words(["cat", "dog"], "wall, road")
    assert other.words == (("wall", "road"), ("cat",), ("dog",))
    assert other.names == ("background", "cat", "dog")
    assert other.background
    assert plain.sha256 != other.sha256
    assert read_class_words(["cat"], ["wall"]).names == ("background", "cat")


@pytest.mark.parametrize(
    ("classes", "background", "said"),
    [
        (["cat"], (), "got only 'cat'.*background="),
        ("cat, dog", (), "separate classes by semicolons"),
        (["cat", "Cat"], (), "'Cat' in two"),
        (["cat", ("dog", "cat")], (), "'cat' in two"),
        (["cat", "background"], ["wall"], "'background' in two"),
        (["cat", ""], (), "non-empty names for class 1"),
        (["cat", []], (), "non-empty names for class 1"),
        ("cat; grass,, lawn", (), "an empty one in 'grass,, lawn'"),
        ("cat;; dog", (), "an empty one"),
        ("no-such-file.txt", (), "does not exist"),
        (7, (), "got int"),
    ],
)
def test_uninformative_names_are_refused(classes: Any, background: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_class_words(classes, background)


def test_a_name_twice_in_a_class_counts_once() -> None:
    words = read_class_words([("grass", "lawn", "Grass"), "sky"])
    assert words.words[0] == ("grass", "lawn")
    assert "'Grass' occurs twice" in words.notes[0]


def test_templates_by_name_or_as_they_are() -> None:
    assert read_templates("imagenet_80") == IMAGENET_80
    assert len(IMAGENET_80) == 80
    assert read_templates("a {}.") == ("a {}.",)
    with pytest.raises(UnknownNameError, match="imagenet_80"):
        read_templates("imagenet80")
    with pytest.raises(InputError, match=r"one \{\}"):
        read_templates(["a photo"])


def test_a_name_is_the_mean_direction_of_its_sentences() -> None:
    encoder = ma.load_encoder("tiny", cache=False)
    words = read_class_words(["seven", ("star", "cross")])
    templates = ("{}", "a photo of a {}.")
    found = text_vectors(encoder, words, templates)
    assert found.shape == (3, 128)
    for vector, name in zip(found, words.all_words, strict=True):
        sentences = encoder.encode_sentences([template.format(name) for template in templates])
        mean = torch.nn.functional.normalize(sentences.mean(dim=0), dim=0)
        np.testing.assert_allclose(vector, mean, atol=1e-5)
