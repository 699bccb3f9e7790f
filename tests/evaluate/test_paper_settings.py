"""Settings as printed: equal to a transcription of the papers' sentences, and legal for the methods here."""

from __future__ import annotations

import doctest
import re
from itertools import product

import pytest

from modalign.core.errors import UnknownNameError
from modalign.data.splits.benchmarks import DATASETS
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.metrics import Accuracy
from modalign.evaluate.publications import paper_settings as module
from modalign.evaluate.publications.paper_settings import PROTOCOLS, paper_settings
from modalign.evaluate.publications.settings_notes import settings_notes
from modalign.evaluate.runs import Run
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.contract.parameters import check_parameters, parameters

PRINTED = ("coop", "maple", "promptsrc", "align", "dam", "hpt", "cmm", "fair", "reclip", "gpua")
SETS = "caltech101 dtd eurosat fgvc_aircraft food101 imagenet oxford_flowers oxford_pets stanford_cars sun397 ucf101"

# DAM, Section IV.B, in its words.
NU = (
    "4.0 for FGVCAircraft, 6.0 for SUN397 and StanfordCars, 7.0 for OxfordPets, EuroSAT and UCF101, "
    "8.0 for Caltech101, OxfordFlowers, Food101 and DTD, 9.0 for ImageNet"
)
# CMM, Table 9, in the order of its rows, which is that of SETS.
BETA = "0.7 0.6 0.8 0.6 0.2 0.3 0.6 0.2 0.6 0.5 0.3"
# Public codes: DAM's m, global prompts, and GPUA's iterations and steps, in the order of SETS.
MIXING = "0.1 0.2 0.4 0.5 0.1 0.1 0.9 0.1 0.2 0.1 0.1"
GLOBAL_PROMPTS = "2 2 4 4 2 2 4 2 2 2 2"
ITERATIONS = "5 5 5 1 5 3 1 3 1 5 3"
STEPS = "1000 1000 100 1000 200 200 100 100 1000 100 200"


def column(method: str, parameter: str, protocol: str = "few-shot") -> list[float]:
    return [paper_settings(method, name, protocol=protocol).parameters[parameter] for name in SETS.split()]


def numbers(row: str) -> list[float]:
    return [float(word) for word in row.split()]


@pytest.mark.parametrize(
    ("method", "parameter", "row"),
    [
        ("cmm", "zero_shot_weight", BETA),
        ("dam", "aligned_weight", MIXING),
        ("dam", "global_prompts", GLOBAL_PROMPTS),
        ("gpua", "max_iterations", ITERATIONS),
        ("gpua", "steps", STEPS),
    ],
)
def test_values_per_data_set(method: str, parameter: str, row: str) -> None:
    assert column(method, parameter, "inductive") == numbers(row)


def test_weights_of_the_alignment_loss_are_those_of_the_sentence() -> None:
    said = {}
    for weight, names in re.findall(r"([\d.]+) for ([^\d]*(?:\d+(?!\.)[^\d]*)*?)(?=, \d\.\d for|$)", NU):
        said |= {name.strip(): float(weight) for name in re.split(r",| and ", names)}
    assert len(said) == 11
    for name, weight in said.items():
        assert paper_settings("dam", name, protocol="base-to-new").parameters["loss_weight"] == weight, name


def test_learning_rates_follow_the_protocol() -> None:
    assert set(column("dam", "learning_rate", "base-to-new")) == {0.0025}
    assert set(column("dam", "learning_rate", "long-tail")) == {0.001}
    for protocol in ("cross-dataset", "domain"):
        found = {m: paper_settings(m, "imagenet", protocol=protocol).parameters for m in ("dam", "align", "maple")}
        assert [found[m]["learning_rate"] for m in found] == [0.001, 0.0026, 0.0026]
        assert [found[m]["epochs"] for m in found] == [5, 2, 2]
        assert (found["dam"]["text_map"], found["dam"]["loss_weight"], found["maple"]["depth"]) == ("shared", 7, 3)
    rates = dict(zip(SETS.split(), column("fair", "learning_rate", "inductive"), strict=True))
    assert {name for name, rate in rates.items() if rate == 1e-6} == {"food101", "sun397"}
    assert set(rates.values()) == {1e-4, 1e-6}


def test_epochs_follow_the_number_of_shots() -> None:
    shots = (1, 2, 4, 8, 16)
    assert [paper_settings("coop", "dtd", shots=k).parameters["epochs"] for k in shots] == [50, 100, 100, 200, 200]
    assert {paper_settings("coop", "imagenet", shots=k).parameters["epochs"] for k in shots} == {50}
    assert [paper_settings("align", "dtd", shots=k).parameters["epochs"] for k in shots] == [10, 10, 10, 40, 40]
    assert paper_settings("align", "dtd", protocol="base-to-new").parameters["epochs"] == 8
    assert paper_settings("align", "dtd") == paper_settings("align", "dtd", shots=16)


@pytest.mark.parametrize("method", PRINTED)
def test_each_entry_is_a_legal_setting_with_a_source(method: str) -> None:
    cls = method_class(method)
    names = {parameter.name for parameter in parameters(cls)}
    for row, protocol, shots in product(DATASETS, PROTOCOLS, (1, 4, 16)):
        found = paper_settings(method, row.name, protocol=protocol, shots=shots)
        assert set(found.parameters) <= names
        check_parameters(cls(**found.parameters))
        assert found.source
        assert all(note.endswith(".") for note in found.notes)


def test_hpt_has_the_settings_of_dam_without_the_alignment() -> None:
    ours, dam = (paper_settings(name, "eurosat", protocol="base-to-new").parameters for name in ("hpt", "dam"))
    assert ours.keys() == {"global_prompts", "augmentation", "batch_size", "epochs", "learning_rate", "training"}
    assert ours.items() <= dam.items()


def test_the_remaining_methods_keep_their_defaults_and_report_it() -> None:
    for method in set(ALL_METHODS) - set(PRINTED):
        found = paper_settings(method, "dtd")
        assert (found.parameters, found.source) == ({}, "")
        assert found.notes == (f"The library has no published settings for {method}; its defaults are used.",)


def test_other_data_sets_get_what_all_sets_share_and_a_note() -> None:
    for method in ("dam", "cmm", "fair", "gpua"):
        known, other = (paper_settings(method, name, protocol="inductive") for name in ("eurosat", "my-photos"))
        assert "this data set" in " ".join(other.notes)
        assert "this data set" not in " ".join(known.notes)
    assert paper_settings("cmm", "my-photos").parameters["zero_shot_weight"] == "auto"
    assert paper_settings("dam", "EuroSAT") == paper_settings("dam", "eurosat")


def test_what_is_printed_for_another_protocol_is_noted() -> None:
    elsewhere, here = (paper_settings("cmm", "dtd", protocol=p).notes for p in ("base-to-new", "few-shot"))
    assert set(elsewhere) - set(here) == {
        "The paper has no base-to-new experiment; these are its settings for few-shot and domain."
    }
    assert paper_settings("dam", "dtd").notes == (
        "Descriptions and structures of the classes are files; give them by descriptions=… and structures=….",
        "The paper has no few-shot experiment; these are its settings for base-to-new, long-tail, cross-dataset and "
        "domain.",
    )


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'align'"):
        paper_settings("aling", "dtd")
    with pytest.raises(UnknownNameError, match="did you mean 'few-shot'"):
        paper_settings("align", "dtd", protocol="fewshot")


def test_the_example_runs() -> None:
    assert doctest.testmod(module).failed == 0


def test_notes_name_the_source_of_each_method_once_and_the_methods_without_one() -> None:
    accuracy = Accuracy(0.5, 0.4, 0.6, 10)
    known = [("dam", "eurosat"), ("dam", "dtd"), ("gda", "dtd"), ("clap", "dtd")]
    runs = [
        BenchmarkRun(
            "few-shot", name, "test", "tiny", settings, None, None, False, 0.0,
            Run(method, 1, 1, accuracy, 0.0, 0.0, 1, 0, "", {}, {}, "", "", 1, {}),
        )
        for method, name in known
        for settings in ("paper", "default")
    ]  # fmt: skip
    notes = settings_notes(runs)
    title = method_class("dam").title
    assert [note for note in notes if note.startswith(f"{title}: Section IV.B")] == notes[:1]
    assert f"{title}: {paper_settings('dam', 'dtd').notes[0]}" in notes
    assert notes[-1] == "the library has no published settings for GDA, CLAP; the defaults are used."
    assert settings_notes(run for run in runs if run.settings == "default") == []
