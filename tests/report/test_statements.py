"""Every sentence follows from its values: both sides of each condition."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalign.report import statements
from modalign.report.statements import GAP_NUMBERS, gap_change, headline, paragraphs, temperature_source
from modalign.report.text import count, one_line, shorten, without_folders

counts = st.integers(0, 3000)


@given(st.floats(0, 1), counts, counts, st.integers(0, 3000))
def test_the_headline_counts_what_the_model_knew(accuracy: float, fitted: int, validated: int, new: int) -> None:
    n = fitted + validated + new
    text = headline(accuracy, n, fitted, validated)
    assert f"{100 * accuracy:.1f} % of {count(n, 'image')}" in text
    assert ("None of them" in text) == (fitted + validated == 0)
    assert (" fitted on" in text.partition("of which")[2]) == (fitted > 0)
    assert ("validated with" in text.partition("of which")[2]) == (validated > 0)
    for k, use in ((fitted, "fitted on"), (validated, "validated with")):
        assert (f"{k:,} {'was' if k == 1 else 'were'} {use}" in text) == (k > 0)
    assert ("not that on new images" in text) == (fitted + validated > 0)


def test_the_headline_of_a_fit_and_its_validation() -> None:
    assert headline(0.5, 3000, 2000, 1000) == (
        "The model classifies 50.0 % of 3,000 images correctly, of which 2,000 were fitted on and 1,000 were validated "
        "with. The accuracy is therefore not that on new images."
    )


@given(st.floats(0, 1), st.integers(1, 3000), st.integers(0, 3000))
def test_the_headline_claims_no_more_than_is_known(accuracy: float, n: int, fitted: int) -> None:
    unknown = headline(accuracy, n, None, None)
    assert "keeps no list" in unknown
    assert "None of them" not in unknown
    mixed = headline(accuracy, n + fitted, fitted, None)
    assert ("fitted on or validated with. The accuracy" in mixed) == (fitted > 0)
    assert ("None of them" in mixed) == (fitted == 0)


@given(st.sampled_from([True, False, None]), st.one_of(st.none(), counts))
def test_where_the_temperature_comes_from(calibrated: bool | None, used: int | None) -> None:
    text = temperature_source(calibrated, "validation images", used)
    assert text.startswith("The temperature was fitted on held-out predictions (validation images)") == (
        calibrated is True
    )
    assert ("No temperature was fitted" in text) == (calibrated is False)
    assert ("not recorded" in text) == (calibrated is None)
    if calibrated:
        assert ("none of these images is shown here" in text) == (used == 0)
        assert ("may be among" in text) == (used is None)
        assert (f"{used or 0:,} of these images" in text) == bool(used)
    else:
        assert "shown here" not in text


numbers = st.one_of(st.none(), st.floats(0, 1e4), st.just(math.inf))
measured = st.fixed_dictionaries(dict.fromkeys(GAP_NUMBERS, numbers))


@given(measured, measured)
def test_closer_is_reported_only_where_every_number_fell(before: dict, after: dict) -> None:
    text = gap_change(before, after)
    pairs = [
        (before[k], after[k])
        for k in GAP_NUMBERS
        if None not in (before[k], after[k]) and math.isfinite(before[k] + after[k])
    ]
    fell, rose = (any(b < a for a, b in pairs), any(b > a for a, b in pairs))
    assert ("closer together:" in text and "disagree" not in text) == (fell and not rose)
    assert ("farther apart:" in text) == (rose and not fell)
    assert ("disagree" in text) == (rose and fell)
    assert ("not measured" in text) == (not pairs)
    assert ("does not change" in text) == (bool(pairs) and not rose and not fell)
    assert text.count(" before and ") == len(pairs)


def test_the_rule_for_significant_names_test_level_and_correction() -> None:
    text = statements.significance("comparisons at the same number of labels")
    for part in ("McNemar", "5 % level", "Holm", "comparisons at the same number of labels", "contains 0 exactly"):
        assert part in text


@given(st.integers(1, 5000))
def test_chance_is_that_of_guessing(classes: int) -> None:
    assert f"{100 / classes:.1f} %" in statements.chance(1 / classes, classes)
    assert f"{classes:,} classes" in statements.chance(1 / classes, classes)


def test_notes_become_sentences() -> None:
    assert paragraphs(["2 files left out", "", "all is well."]) == "2 files left out.\n\nAll is well."
    assert "/home" not in paragraphs(["nothing in /home/jane/photos/cats"])


# -- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jane/models/clip", "clip"),
        ("/home/jane/models/clip (0123456789ab)", "clip (0123456789ab)"),
        ("Expected '/srv/data/x.jpg' to exist", "Expected 'x.jpg' to exist"),
        ("tiny-vision+/home/jane/clip", "tiny-vision+clip"),
        (r"C:\Users\Jane\models\clip", "clip"),
        (r"\\server\share\clip", "clip"),
        ("file:///home/jane/x.npz", "x.npz"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("https://huggingface.co/openai/clip", "https://huggingface.co/openai/clip"),
        ("photos/cat/1.jpg", "photos/cat/1.jpg"),
        ("1 / 2, and/or 8/16 of 100 %", "1 / 2, and/or 8/16 of 100 %"),
        (f"{Path.home()}/x/a b.jpg", "a b.jpg" if len(Path.home().parts) <= 2 else "x/a b.jpg"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_folders_of_this_user_are_cut_also_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "jane doe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert without_folders(f"in '{home}{os.sep}photos': {home}") == "in 'photos': ~"
    monkeypatch.chdir(home)
    assert "jane" not in without_folders(f"{os.getcwd()}{os.sep}x and {os.getcwd()}")


@given(st.text())
def test_one_line_holds_nothing_that_a_browser_or_xml_would_stumble_over(text: str) -> None:
    shown = one_line(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert not any(c in shown for c in "\u202a\u202e\u2066\u2069\u200f\ufffe\uffff")
    assert one_line(shown) == shown
    assert len(shorten(text, 10)) <= 10


def test_numbers_have_their_noun() -> None:
    assert [count(n, "class", "classes") for n in (0, 1, 1797)] == ["0 classes", "1 class", "1,797 classes"]
