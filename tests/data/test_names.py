"""Order and comparison of names."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.data.names import (
    did_you_mean,
    match_names,
    name_classes,
    natural_key,
    normalize,
    plural_key,
    quoted,
    read_classes,
)

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
def test_normalizing_twice_is_normalizing_once(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)


@pytest.mark.parametrize(
    "name",
    [
        "Grand_Piano",
        "grand  piano",
        " GRAND-PIANO ",
        "grand_ piano",
        "grand\u00a0piano",
        "ｇｒａｎｄ piano",
        "\ufeffgrand pi\u200bano",
    ],
)
def test_spellings_of_one_name(name: str) -> None:
    assert normalize(name) == "grand piano"


@given(st.text(max_size=8))
def test_the_form_of_unicode_makes_no_other_name(name: str) -> None:
    assert len({normalize(unicodedata.normalize(form, name)) for form in ("NFC", "NFD", "NFKC", "NFKD")}) == 1


def test_a_set_of_names_has_no_order() -> None:
    with pytest.raises(InputError, match=r"list of names.*got set"):
        read_classes({"cat", "dog"})


def test_endless_numerals_are_no_numbers() -> None:
    with pytest.raises(InputError, match="among the 2 given class names"):
        name_classes(["9" * 6000], ["cat", "dog"])


def test_hints() -> None:
    assert did_you_mean("Pohtos", ["photos", "videos"]) == " Did you mean 'photos'?"
    assert did_you_mean("xyz", ["photos"]) == ""
    assert quoted(["a", "b"]) == "'a', 'b'"
    assert quoted(list("abcdefg"), 3) == "'a', 'b', 'c' and 4 more"


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


def test_damaged_json_is_reported_with_its_line(tmp_path) -> None:
    (tmp_path / "names.json").write_text('["cat",\n "dog"')
    with pytest.raises(InputError, match="line 2"):
        read_classes(tmp_path / "names.json")


WORDS = ["cat", "Cat", "cats", "dog", "sea horse", "sea_horse", "seahorse", "Seahorses", "10", "2", "0", "02"]


@given(st.lists(st.sampled_from(WORDS), unique=True), st.lists(st.sampled_from(WORDS), unique=True), st.randoms())
def test_names_are_matched_whatever_their_order(wanted: list[str], known: list[str], random) -> None:
    for plural in (False, True):
        found = match_names(wanted, known, plural=plural)
        assert found == match_names(random.sample(wanted, len(wanted)), random.sample(known, len(known)), plural=plural)
        for name in wanted:
            same = [other for other in known if normalize(other) == normalize(name)]
            near = [other for other in known if plural_key(other) == plural_key(name)]
            if name in known:
                assert found[name] == name
            elif len(same) == 1:
                assert found[name] == same[0]
            elif same or not plural or len(near) != 1:
                assert name not in found
            else:
                assert found[name] == near[0]


@given(st.permutations(["two", "ten", "zero", "one"]), st.permutations(["two", "ten", "zero", "one"]))
def test_keys_get_the_label_of_their_own_name(found: list[str], order: list[str]) -> None:
    naming = name_classes(found, order)
    assert naming.names == tuple(order)
    assert all(naming.names[naming.index[key]] == key for key in found)


@given(st.permutations(["10", "2", "0", "1"]), st.permutations(["10", "2", "0", "1", "7"]))
def test_numerals_that_are_names_are_names(found: list[str], order: list[str]) -> None:
    naming = name_classes(found, order)
    assert all(naming.names[naming.index[key]] == key for key in found)
    assert not any("count" in note for note in naming.notes)


def test_numbers_count_words_and_are_labeled_so() -> None:
    words = [f"word {i}" for i in range(11)]
    naming = name_classes(["10", "2"], words)
    assert naming.index == {"10": 10, "2": 2}
    assert any("count the given names from 0, so that 0 is 'word 0'" in note for note in naming.notes)
    assert not any("count" in note for note in name_classes(["10", "2"], words, indices=True).notes)
    with pytest.raises(InputError, match=r"got '11', which is not\. Numbers count the names from 0 to 10"):
        name_classes([str(i) for i in range(1, 12)], words)
    with pytest.raises(InputError, match="one spelling of every number"):
        name_classes(["1", "01"], words)
    with pytest.raises(InputError, match="'cat'"):
        name_classes(["1", "cat"], words)


def test_integers_count_even_where_the_names_are_numerals() -> None:
    numerals = ["2", "1", "0"]
    assert name_classes(["0", "2"], numerals, indices=True).index == {"0": 0, "2": 2}
    assert name_classes(["0", "2"], numerals).index == {"0": 2, "2": 0}


def test_given_names_that_differ_only_by_case_are_kept_apart_and_reported() -> None:
    naming = name_classes(["crane", "Crane"], ["Crane", "crane ", "dog"])
    assert naming.index == {"Crane": 0, "crane": 1}
    assert any("'Crane', 'crane' differ only by case" in note for note in naming.notes)
    with pytest.raises(InputError, match="'CRANE'"):
        name_classes(["CRANE"], ["Crane", "crane"])


def test_keys_that_become_one_class_are_reported() -> None:
    naming = name_classes(["Grand Piano", "grand_piano", "owl"], ["grand piano", "owl"])
    assert naming.index == {"Grand Piano": 0, "grand_piano": 0, "owl": 1}
    assert any("'Grand Piano', 'grand_piano' are taken for one class, 'grand piano'" in note for note in naming.notes)
    assert name_classes(["Cat", "kitten"], {"Cat": "cat", "kitten": "cat"}).notes == (), "a mapping says so itself"


def test_the_sign_of_a_number_counts() -> None:
    assert normalize("-1") == normalize(" -1 ") != normalize("1")
    assert normalize("grand-piano") == normalize("grand piano")
    with pytest.raises(InputError, match="'-1'"):
        name_classes(["-1", "0"], ["0", "1"])
    assert not name_classes(["-1", "1"]).notes
