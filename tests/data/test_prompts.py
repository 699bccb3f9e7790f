"""Sentences for classes, and the description files of CuPL and HPT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modalign.core.errors import InputError, UnknownNameError
from modalign.data.splits.benchmark_sets import DATASETS
from modalign.data.splits.drawing import read_coop_split
from modalign.data.text.descriptions import (
    DEFAULT_TEMPLATE,
    TEMPLATES,
    Structure,
    class_sentences,
    read_descriptions,
    read_structures,
    sentence_notes,
    sentences,
)
from modalign.data.text.templates import IMAGENET_7, IMAGENET_80

TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "text"
needs_text = pytest.mark.skipif(not TEXT.is_dir(), reason="needs ../shared/data/text")

GRAPH = {
    "Entities": ["cat", "fur"],
    "Attributes": ["soft"],
    "Entity-to-Entity Relationships": [{"entity1": "cat", "relationship": "has", "entity2": "fur"}],
    "Entity-to-Attribute Relationships": [{"entity": "fur", "relationship": "is", "attribute": "soft", "extra": "x"}],
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_underscores_become_blanks_and_nothing_else_changes() -> None:
    assert sentences(["grand_piano", "BAe-125 {x}"]) == [["a photo of a grand piano."], ["a photo of a BAe-125 {x}."]]


def test_templates_by_key_one_or_many() -> None:
    assert sentences(["owl"], "DTD") == [["owl texture."]]
    assert sentences(["owl"], ["a {}", "the {}"]) == [["a owl", "the owl"]]
    assert [len(s) for s in sentences(["owl", "cat"], "imagenet")] == [7, 7]


@pytest.mark.parametrize("templates", ["a photo", "a {} and {}", ["a {}", "no name"], [], ["{}", 3], "a {name}"])
def test_templates_without_a_place_for_the_name(templates: object) -> None:
    with pytest.raises(InputError):
        sentences(["owl"], templates)


def test_an_unknown_key_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'imagenet'"):
        sentences(["owl"], "imagnet")


@pytest.mark.parametrize(
    ("name", "article"),
    [("owl", "an"), ("cat", "a"), ("unicorn", "a"), ("umbrella", "an"), ("hour hand", "an"), ("house", "a"),
     ("ewe", "a"), ("one-way street", "a"), ("uninteresting thing", "an"), ("European robin", "a"), ("Egg", "an"),
     ("8", "an"), ("18", "an"), ("180", "a"), ("X-ray", "an"), ("LED lamp", "an"), ("SUV", "an"), ("LION", "a"),
     ("USB stick", "a"), ("T-shirt", "a"), ("Möwe", "a"), ("犬", "a"), ("lens", "a"), ("lotus", "a"), ("iris", "an"),
     ("wine glass", "a"), ("great pyrenees", "a"), ("GPS", "a"), ("chest of drawers", "a"), ("bus with doors", "a"),
     ("tiger, panthera tigris", "a"), ("McDonald's", "a"), ("triceratops", "a"), ("specimen", "a"), ("abacus", "an"),
     ("gas", "a")],
)  # fmt: skip
def test_articles_by_sound(name: str, article: str) -> None:
    assert sentences([name], "a photo of a {}.", grammatical=True) == [[f"a photo of {article} {name}."]]
    assert sentences([name], "itap of the {}.", grammatical=True) == [[f"itap of the {name}."]]


@pytest.mark.parametrize(
    "name",
    ["airplanes", "Motorbikes", "MOTORBIKES", "scissors", "ice skates", "pictures of a cat", "people", "policemen",
     "women", "french fries", "eyes", "binoculars, field glasses", "kangaroos"],
)  # fmt: skip
def test_a_plural_has_no_article(name: str) -> None:
    templates = ["a photo of a {}.", "A {}", "the {}"]
    assert sentences([name], templates, grammatical=True) == [[f"a photo of {name}.", name, f"the {name}"]]


def test_the_ensembles_of_clip() -> None:
    assert len(set(IMAGENET_80)) == 80
    assert set(IMAGENET_7) < set(IMAGENET_80)
    assert DEFAULT_TEMPLATE in IMAGENET_80
    assert all(t.count("{}") == 1 for templates in TEMPLATES.values() for t in templates)


def test_every_data_set_has_templates() -> None:
    assert all(row.templates for row in DATASETS)


def test_descriptions_are_matched_whatever_case_and_blanks(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"Grand Piano": ["It has  keys.", " "], "OWL": "It has eyes.", "unused": []})
    assert read_descriptions(file, ["owl", "grand_piano"]) == [["It has eyes."], ["It has keys."]]


def test_descriptions_may_be_a_mapping() -> None:
    described = {"owl": ["It has eyes."], "Sea Horse": ["It swims."]}
    assert class_sentences(["sea_horse", "owl"], None, described) == [["It swims."], ["It has eyes."]]
    with pytest.raises(InputError, match="in the given mapping, got none of 'cat'"):
        read_descriptions(described, ["cat"])
    with pytest.raises(InputError, match="as a JSON file or a mapping, got int"):
        read_descriptions(3, ["cat"])  # type: ignore[arg-type]


def test_an_exact_name_comes_before_a_similar_one(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"a": ["small"], "A": ["large"]})
    assert read_descriptions(file, ["A", "a"]) == [["large"], ["small"]]


def test_missing_classes_are_all_reported(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"owl": ["x"], "sea horse": ["x"]})
    with pytest.raises(InputError, match=r"all 3 classes.*none of 'sea hors', 'cat'\. Did you mean 'sea horse'\?"):
        read_descriptions(file, ["owl", "sea hors", "cat"])


def test_a_plural_or_a_blank_is_accepted_with_a_note_where_one_name_matches(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"airplane": ["a"], "motorbike": ["m"], "Sea Horse": ["s"], "owl": ["o"]})
    names = ["owl", "airplanes", "Motorbikes", "sea_horse", "seahorses"]
    assert read_descriptions(file, names) == [["o"], ["a"], ["m"], ["s"], ["s"]]
    (note,) = sentence_notes(names, None, file)
    assert "'airplanes' by those of 'airplane', 'Motorbikes' by those of 'motorbike', 'seahorses'" in note
    assert "sea_horse" not in note
    two = write(tmp_path / "two.json", {"wheelchair": ["a"], "wheel chair": ["b"]})
    assert read_descriptions(two, ["wheel_chair"]) == [["b"]]
    with pytest.raises(InputError, match="none of 'wheelchairs'"):
        read_descriptions(two, ["wheelchairs"])


def test_notes_are_on_what_becomes_a_sentence(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"7": ["x"], "cat": ["x"]})
    names = ["7", "cat"]
    assert len(sentence_notes(names)) == len(sentence_notes(names, "a {}.", file)) == 1
    assert sentence_notes(names, None, file) == sentence_notes(names, "a photo of the digit {}.") == ()


@pytest.mark.parametrize(
    "content", ["[1, 2", [1], {"owl": []}, {"owl": [" "]}, {"owl": [3]}, {"owl": {"a": "b"}}, {"owl": None}]
)
def test_files_that_are_no_descriptions(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="Expected"):
        read_descriptions(write(tmp_path / "d.json", content), ["owl"])


def test_a_missing_file_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "cupl.json", {})
    with pytest.raises(InputError, match=r"Did you mean 'cupl.json'\?"):
        read_descriptions(tmp_path / "cuple.json", ["owl"])


def test_structures(tmp_path: Path) -> None:
    file = write(tmp_path / "s.json", {"Cat": [GRAPH, GRAPH]})
    first, second = read_structures(file, ["cat"])[0]
    assert first == second == Structure(("cat", "fur"), ("soft",), (("cat", "has", "fur"),), (("fur", "is", "soft"),))


@pytest.mark.parametrize(
    "change",
    [{"Entities": "cat"}, {"Attributes": [1]}, {"Entity-to-Entity Relationships": None},
     {"Entity-to-Attribute Relationships": [{"entity": "x"}]}, {"Entity-to-Entity Relationships": ["x"]}],
)  # fmt: skip
def test_structures_of_another_shape_are_reported_with_their_place(tmp_path: Path, change: dict) -> None:
    file = write(tmp_path / "s.json", {"cat": [GRAPH, {**GRAPH, **change}]})
    with pytest.raises(InputError, match=f"{next(iter(change))}.*graph 2 of 'cat'"):
        read_structures(file, ["cat"])


@pytest.mark.parametrize("content", [{"cat": []}, {"cat": {}}, {"cat": [3]}])
def test_structures_that_are_none(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="'cat'"):
        read_structures(write(tmp_path / "s.json", content), ["cat"])


@needs_text
@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "OxfordPets"])
def test_the_published_files_fit_the_published_class_names(name: str) -> None:
    items, _ = read_coop_split(TEXT / "splits" / f"split_zhou_{name}.json")
    descriptions = read_descriptions(TEXT / "hpt" / "description" / f"{name}.json", items.class_names)
    structures = read_structures(TEXT / "hpt" / "structure" / f"{name}.json", items.class_names)
    assert len(descriptions) == len(structures) == len(items.class_names)
    assert all(len(lines) == 5 for lines in descriptions)
    assert all(len(graphs) == 5 and all(g.entities for g in graphs) for graphs in structures)


@needs_text
@pytest.mark.parametrize(("name", "data"), [("caltech101", "Caltech101"), ("eurosat", "EuroSAT")])
def test_the_published_cupl_files(name: str, data: str) -> None:
    items, _ = read_coop_split(TEXT / "splits" / f"split_zhou_{data}.json")
    lines = read_descriptions(TEXT / "cupl" / f"CuPL_prompts_{name}.json", items.class_names)
    assert min(map(len, lines)) >= 15


def test_templates_and_descriptions_together(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"owl": ["It has eyes.", "It flies."], "grand piano": ["It has keys."]})
    names = ["grand_piano", "owl"]
    assert class_sentences(names, ("a {}.", "the {}."), file) == [
        ["a grand piano.", "the grand piano.", "It has keys."],
        ["a owl.", "the owl.", "It has eyes.", "It flies."],
    ]
    assert class_sentences(names, None, file) == read_descriptions(file, names)
    assert class_sentences(names, "imagenet") == sentences(names, "imagenet")
    assert class_sentences(names) == [["a photo of a grand piano."], ["a photo of an owl."]]
    assert class_sentences(names, "a photo of a {}.")[1] == ["a photo of a owl."], "a given template is used as it is"
