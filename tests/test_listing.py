"""The list of methods equals the classes, and is quick to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modalign.cli.overview import described, library, listing, requirements
from modalign.core.errors import InputError, UnknownNameError
from modalign.methods import ALL_METHODS, method_class, method_name


@pytest.mark.parametrize("name", ALL_METHODS)
def test_what_is_listed_equals_the_class(name: str) -> None:
    assert library().get(name) == described(method_class(name)), "run python scripts/make_docs.py"


def test_meanings_have_no_marks_of_docstrings() -> None:
    meanings = [row[3] for facts in library().values() for row in facts["parameters"]]
    assert len(meanings) > 300
    assert not [meaning for meaning in meanings if ":`" in meaning or "``" in meaning]


def test_every_method_is_listed_in_the_order_of_the_registry() -> None:
    assert list(library()) == list(ALL_METHODS)


@pytest.mark.parametrize(
    ("name", "labels", "text"),
    [
        ("zero_shot", "only without text", "optional"),
        ("linear_probe", "needed", "not used"),
        ("cmm", "needed", "optional"),
        ("gpua", "only without text", "optional"),
        ("lfa", "optional", "optional"),
        ("fair", "not used", "needed"),
        ("coop", "needed", "needed"),
    ],
)
def test_what_a_method_needs(name: str, labels: str, text: str) -> None:
    assert requirements(library()[name]) == {"labels": labels, "text": text}


def test_lists_load_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys; from modalign import cli; assert cli.run(['list', 'methods']) == 0; "
        "assert cli.run(['list', 'cmm']) == 0; "
        "assert cli.run(['list', 'encoders', '--json']) == 0; assert cli.run(['list', 'cmn']) == 2; "
        "print({'torch', 'sklearn', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("set()\n")
    assert run.stderr == "error: Unknown list or name 'cmn'; did you mean 'cmm'?\n"


@pytest.mark.parametrize(
    ("got", "meant"), [("method", "methods"), ("Encoder", "encoders"), ("tip-adaptr", "tip_adapter")]
)
def test_an_unknown_list_gets_the_nearest(got: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{meant}'"):
        listing(got)


@pytest.mark.parametrize(
    ("name", "first"),
    [("RN50", "timm/resnet50_clip.openai"), ("ViT-B/16", "openai/clip-vit-base-patch16"), ("digits", "digits")],
)
def test_short_names_and_the_digits_are_listed(name: str, first: str) -> None:
    ((row, *_),) = listing(name)[1]
    assert row == first


def test_a_name_like_no_other_gets_the_lists() -> None:
    with pytest.raises(UnknownNameError, match=r"known: datasets, encoders, methods\.$"):
        listing("qqqqqqqq")


@pytest.mark.parametrize("name", ALL_METHODS)
def test_a_method_has_its_title_as_a_second_name(name: str) -> None:
    assert method_name(library()[name]["title"]) == name


def test_a_row_of_the_tables_says_which_method_it_is() -> None:
    with pytest.raises(InputError, match="'TransCLIP-ZS' of the papers' tables is transclip"):
        listing("transclip-zs")


def test_a_meaning_has_no_marks_of_docstrings() -> None:
    _, rows = listing("gpua")
    assert rows
    assert not any("``" in cell for row in rows for cell in row)
