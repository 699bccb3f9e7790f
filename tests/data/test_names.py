"""Order and comparison of names."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalign.data.names import did_you_mean, name_classes, natural_key, normalise, read_classes, some
from modalign.errors import InputError

NAMES = st.text("aAb01 9_-éß٣", max_size=8)


def test_numbers_are_ordered_as_numbers() -> None:
    names = ["img1", "img2", "IMG3", "img10", "img010b", "Ümlaut", "zebra"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key)[:5] == ["img1", "img2", "IMG3", "img10", "img010b"]


def test_endless_numbers_are_compared_too() -> None:
    assert sorted(["9" * 6000, "1" + "0" * 6000, "7"], key=natural_key)[0] == "7"


@given(st.lists(NAMES, unique=True))
def test_the_order_is_total(names: list[str]) -> None:
    assert len({natural_key(name) for name in names}) == len(names)
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


@given(NAMES)
def test_normalising_twice_is_normalising_once(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)


@pytest.mark.parametrize("name", ["Grand_Piano", "grand  piano", " GRAND-PIANO ", "grand_ piano"])
def test_spellings_of_one_name(name: str) -> None:
    assert normalise(name) == "grand piano"


def test_hints() -> None:
    assert did_you_mean("Pohtos", ["photos", "videos"]) == " Did you mean 'photos'?"
    assert did_you_mean("xyz", ["photos"]) == ""
    assert some(["a", "b"]) == "'a', 'b'"
    assert some(list("abcdefg"), 3) == "'a', 'b', 'c' and 4 more"


@given(st.lists(st.sampled_from(["cat", "dog", "owl", "emu"]), unique=True, min_size=1))
def test_names_and_index_agree(found: list[str]) -> None:
    naming = name_classes(found)
    assert all(naming.names[naming.index[key]] == key for key in found)
    assert name_classes(found[::-1]) == naming
    given_order = name_classes(found, ["emu", "owl", "dog", "cat"])
    assert given_order.names == ("emu", "owl", "dog", "cat")
    assert all(given_order.names[given_order.index[key]] == key for key in found)


def test_wordnet_lines_map_folders_to_names(tmp_path) -> None:
    (tmp_path / "classnames.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    assert read_classes(tmp_path / "classnames.txt") == {"n01440764": "tench", "n01443537": "goldfish"}


def test_damaged_json_is_told_with_its_line(tmp_path) -> None:
    (tmp_path / "names.json").write_text('["cat",\n "dog"')
    with pytest.raises(InputError, match="line 2"):
        read_classes(tmp_path / "names.json")
