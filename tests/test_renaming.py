"""Former names of parameters, values and options work, each with one warning that has the present name."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import modalign as ma
from modalign.cli import run
from modalign.core.errors import InputError, options
from modalign.core.renaming import REMOVED_IN, Formerly, present_names, renamed_arguments
from modalign.data.items import load_items
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.comparison.schedule import _under_present_names
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.contract.parameters import fits, former_names, parameters
from modalign.model.persistence.state import encode_method, restore_method
from modalign.testing.subject import few_shot_problem as few_shot

RENAMED = {
    "cmm": {
        "fusion": "zero_shot_weight", "training_fusion": "training_zero_shot_weight",
        "fusion_low": "min_zero_shot_weight", "fusion_high": "max_zero_shot_weight",
    },
    "gpua": {"marginals": "class_prior", "competitors": "n_hard_negatives"},
    "lfa": {"beta": "identity_weight", "neighbours": "n_hard_negatives", "checkpoints": "n_evaluations"},
    "transclip": {"neighbours": "n_neighbors"},
    "cma": {"blend": "cosine_weight"},
    "cross_modal_probe": {"ratio": "probe_weight", "checkpoints": "n_evaluations"},
    "wise_ft": {"checkpoints": "n_evaluations"},
    "fair_vectors": {"units": "score_scale", "fairness": "fairness_weight", "shares": "class_prior"},
    "fair": {
        "target": "trainable", "target_options": "trainable_options", "labeller": "labeler", "score": "score_scale",
        "fairness": "fairness_weight", "shares": "class_prior",
    },
    "dpa_like": {
        "target": "trainable", "target_options": "trainable_options", "fairness": "fairness_weight",
        "mix": "image_weight",
    },
    "lafter_like": {"target": "trainable", "target_options": "trainable_options"},
    "dam": {"mixing": "aligned_weight"},
    "align": {"beta": "token_weight", "length": "n_ctx"},
    "coop": {"length": "n_ctx", "class_specific": "class_specific_context"},
    "kgcoop": {"length": "n_ctx", "class_specific": "class_specific_context"},
    "plot": {"length": "n_ctx"},
    "vpt": {"length": "n_ctx"},
    "upt": {"length": "n_ctx"},
    "maple": {"length": "n_ctx"},
}  # fmt: skip


@pytest.mark.parametrize("name", ALL_METHODS)
def test_a_former_name_sets_the_present_parameter(name: str) -> None:
    cls = method_class(name)
    assert {f.name: new for new, f in former_names(cls).items() if f.name} == RENAMED.get(name, {})
    default = {p.name: p.default for p in parameters(cls)}
    for old, new in RENAMED.get(name, {}).items():
        with pytest.warns(FutureWarning, match=rf"{cls.__name__}\({old}=…\) is now .*\({new}=…\)") as caught:
            method = cls(**{old: default[new]})
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert clone(method).get_params() == method.get_params() == cls().get_params()
        with pytest.warns(FutureWarning, match=new):
            cls().set_params(**{old: default[new]})
        with pytest.raises(InputError, match="by two names"):
            cls(**{old: default[new], new: default[new]})


@pytest.mark.parametrize(
    ("name", "parameter", "old", "new"),
    [
        ("gpua", "preset", "released", "official_code"),
        ("dam", "preset", "released", "official_code"),
        ("align", "preset", "released", "official_code"),
        ("fair", "class_prior", "start", "estimate"),
        ("fair_vectors", "class_prior", "start", "estimate"),
        ("coop", "augmentation", "centre", "center"),
        ("dam", "augmentation", ["centre", "flip"], ["center", "flip"]),
    ],
)
def test_a_former_value_is_the_present_one(name: str, parameter: str, old: object, new: object) -> None:
    cls = method_class(name)
    with pytest.warns(FutureWarning, match=f"the old name stops working in version {REMOVED_IN}") as caught:
        method = cls(**{parameter: old})
    assert len(caught) == 1
    assert getattr(method, parameter) == new
    (own,) = (p for p in parameters(cls) if p.name == parameter)
    assert fits(new, own)
    assert not fits("released", own) or parameter == "augmentation"


def test_present_names_warn_of_nothing_and_values_stay_the_same_objects() -> None:
    prior, views = np.full(3, 1 / 3), ["flip"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method_class("gpua")(class_prior=prior).class_prior is prior
        assert method_class("dam")(augmentation=views).augmentation is views


def test_a_function_takes_its_former_arguments() -> None:
    @renamed_arguments(former="present")
    def function(a: int, *, present: int = 0, **rest: int) -> tuple[int, int, dict[str, int]]:
        return a, present, rest

    assert list(inspect.signature(function).parameters) == ["a", "present", "rest"]
    with pytest.warns(FutureWarning, match=r"^former=… is now present=…; the old name stops"):
        assert function(1, former=2, other=3) == (1, 2, {"other": 3})
    with options({"former": "--former", "present": "--present"}), pytest.warns(FutureWarning, match="^--former is now"):
        function(1, former=2)
    with pytest.raises(InputError, match="Expected 'present' once"):
        function(1, former=2, present=3)


def test_british_and_american_spelling_of_a_former_name_are_one() -> None:
    with pytest.warns(FutureWarning, match="n_neighbors"):
        assert method_class("transclip")(neighbors=2).n_neighbors == 2


def test_names_of_a_file_are_taken_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = present_names({"old": "x", "kept": 1}, {"new": Formerly("old", (("x", "y"),))}, format_name=None)
    assert found == {"new": "y", "kept": 1}


def test_fit_takes_the_former_name_of_clip_features() -> None:
    data = few_shot()
    with pytest.warns(FutureWarning, match="anchor=… is now clip_features=…") as caught:
        old = method_class("gpua")(steps=2, random_state=0).fit(data.X, text=data.text, anchor=data.X)
    assert len(caught) == 1
    new = method_class("gpua")(steps=2, random_state=0).fit(data.X, text=data.text, clip_features=data.X)
    np.testing.assert_array_equal(old.scores(data.X), new.scores(data.X))


def test_adapt_and_compare_take_the_former_name_of_the_clip_encoder() -> None:
    """Refused for what they hold, after they were understood."""
    with pytest.warns(FutureWarning, match="anchor=… is now clip_encoder=…"), pytest.raises(InputError, match="shots"):
        ma.compare("nothing", anchor="tiny", shots=[-1])
    with pytest.warns(FutureWarning) as caught, pytest.raises(InputError, match="names of the classes"):
        ma.adapt("nothing", anchor="tiny", unlabelled=True)
    assert [str(w.message).partition(";")[0] for w in caught] == [
        "anchor=… is now clip_encoder=…",
        "unlabelled=… is now unlabeled=…",
    ]


@pytest.mark.parametrize("words", [["--unlabelled"], ["--anchor", "tiny"], ["--anchor=tiny"]])
def test_former_options_are_understood(words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    new = {"--unlabelled": "--unlabeled"}.get(words[0], "--clip-encoder")
    with pytest.warns(FutureWarning, match=f"{words[0].partition('=')[0]} is now {new}"):
        assert run(["fit", str(tmp_path / "none"), "--out", str(tmp_path / "out"), *words]) == 2
    assert "such option" not in capfd.readouterr().err.lower()


def test_set_takes_a_former_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--method", "cmm", "--set", "fusion=1.5"]
    with pytest.warns(FutureWarning, match=r"CMM \(--set fusion=…\) is now CMM \(--set zero_shot_weight=…\)") as caught:
        assert run(words) == 2
    assert len(caught) == 1


def earlier(name: str, entries: dict, tensors: dict) -> tuple[dict, dict]:
    """A saved method as versions before the renaming wrote it."""
    old = {new: former.name for new, former in former_names(method_class(name)).items() if former.name}
    values = {new: {b: a for a, b in f.values} for new, f in former_names(method_class(name)).items()}
    entries = json.loads(json.dumps(entries))
    entries["parameters"] = {
        old.get(k, k): values.get(k, {}).get(v, v) if isinstance(v, str) else v
        for k, v in entries["parameters"].items()
    }
    learned = {f"{new}_": f"{name}_" for new, name in old.items()}
    entries["state"] = {learned.get(k, k): v for k, v in entries["state"].items()}
    return entries, {learned.get(k, k): v for k, v in tensors.items()}


@pytest.mark.parametrize("name", ["cmm", "lfa", "gpua", "cma", "cross_modal_probe", "fair_vectors", "transclip"])
def test_models_saved_with_former_names_load(name: str) -> None:
    data = few_shot()
    settings = {"steps": 5} if "steps" in method_class(name)().get_params() else {}
    settings |= {"class_prior": "estimate"} if name == "fair_vectors" else {}
    method = method_class(name)(random_state=0, **settings).fit(data.X, data.y, text=data.text)
    entries, tensors = earlier(name, *encode_method(method))
    assert set(RENAMED[name]) <= set(entries["parameters"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = restore_method(entries, tensors)
    assert again.get_params() == method.get_params()
    np.testing.assert_array_equal(again.scores(data.Xt), method.scores(data.Xt))
    assert {k for k in vars(again) if k.endswith("_")} == {k for k in vars(method) if k.endswith("_")}


def test_runs_recorded_with_former_names_are_found_again() -> None:
    from modalign.evaluate.metrics import accuracy
    from modalign.evaluate.runs import Run

    parameters = {"fusion": 1.0, "steps": 3}
    hits = np.ones(4, dtype=bool)
    run = Run("cmm", 1, 1, accuracy(hits, hits), 0.0, 0.0, 4, 0, "p", parameters, {}, "f", "t", 1, {}, correct=hits)
    assert _under_present_names(run).parameters == {"zero_shot_weight": 1.0, "steps": 3}


def test_former_attributes_and_arguments_of_classes_warn_once_and_give_the_present_ones(tmp_path: Path) -> None:
    items = load_items([np.zeros((8, 8), np.uint8)] * 3, labels=["a", "b", "a"])
    with pytest.warns(FutureWarning, match=r"^unlabelled=… is now unlabeled=…; the old name stops") as warned:
        split = Split(np.array([0]), unlabelled=np.array([1, 2]))
    assert len(warned) == 1
    with pytest.warns(FutureWarning, match=r"^Split.unlabelled is now Split.unlabeled;"):
        assert split.unlabelled is split.unlabeled
    with pytest.warns(FutureWarning, match=r"^Items.unlabelled is now Items.unlabeled;"):
        assert (items.unlabelled().labels == -1).all()
    with pytest.warns(FutureWarning, match=r"^MethodComparison.looks is now MethodComparison.diagnostics;"):
        assert MethodComparison(()).looks == ()
    path = split.save(tmp_path / "split.json", items)
    path.write_text(path.read_text().replace('"unlabeled"', '"unlabelled"'))  # as earlier versions wrote it
    assert Split.load(path, items).unlabeled.tolist() == [1, 2]
