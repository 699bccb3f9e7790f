"""Every hyper-parameter changes something: with another value, a fit ends with other scores or another state.

A parameter is tried in several situations (with validation images, without, without labels, with crops) and with
several other values, until one of them makes a difference. What only repeats the parameter does not count.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from problems import few_shot, quick

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.data.text.descriptions import sentences
from modalign.linalg.similarity import unit
from modalign.methods import METHODS, TOWER_METHODS, method_class
from modalign.methods.contract.parameters import Parameter, fits, parameters

EXEMPT = {
    ("gpua", "memory"): "decides what is kept and what is computed again, not what comes out",
    ("auto", "seconds"): "a limit of time",
    ("auto", "random_state"): "takes seconds; test_auto.py tries it",
    ("cmm", "max_steps"): "beyond the step at which the search ends",
    ("lfa", "max_steps"): "beyond the step at which the search ends",
    ("cmm", "patience"): "of a search over hundreds of steps, which test_cmm.py follows",
    ("lfa", "patience"): "of a search over hundreds of steps",
    ("lfa", "n_evaluations"): "of a search over hundreds of steps",
    **{
        (name, "n_evaluations"): "the same step is the best of few and of many here"
        for name in ("cross_modal_probe", "wise_ft")
    },
    ("linear_probe", "max_iterations"): "a bound that twenty images do not reach",
    ("align", "sweeps"): "a bound that four images do not reach",
    ("plot", "sweeps"): "a bound that four images do not reach",
    ("transclip", "outer_iterations"): "at rest before twenty images need more",
    ("fair_vectors", "momentum"): "of a mean over batches; twenty images are one",
    ("reclip", "alpha"): "four images are labeled alike; test_reclip.py holds it",
    ("reclip", "neighbors"): "four images are labeled alike; test_reclip.py holds it",
    **{(name, "structures"): "a file" for name in ("dam", "hpt")},
    **{(name, "instance_prompts"): "without that file each class has one sentence" for name in ("dam", "hpt")},
    **{
        (name, "loss"): "acts where classes are of several sizes; test_prompt_losses.py holds it"
        for name in ("coop", "cocoop", "kgcoop")
    },
    ("gda", "random_state"): "all foldings choose one α here",
    **{
        (name, "criterion"): "both choose the same here; test_fitting.py holds what each chooses"
        for name in ("cmm", "cross_modal_probe", "wise_ft", "task_res", "lp_plus_plus", "transclip")
    },
}
"""Parameters that need not act here, with the reason."""
VALUES: dict[str, tuple[Any, ...]] = {
    "candidates": (("zero_shot", "gda"),), "class_prior": ([0.4, 0.3, 0.1, 0.1, 0.1],), "spaces": ([12, 12],),
    "init": ("zero", "kaiming"), "augmentation": ("flip", "random_resized_crop"), "maps": ("qk",),
    "template": ("an image of {}.",), "words": ("an image",), "training": ({"weight_decay": 0.3, "warmup": 0},),
    "trainable_options": ({"rank": 2},), "n_evaluations": (2,),
    "min_learning_rate": (0.0, 1e-5), "random_state": (1, 2, 3, 4),
}  # fmt: skip
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    **{("transclip", name): {"logit_scale": 5.0} for name in ("inner_iterations", "confident")},
    ("cmm", "min_learning_rate"): {"steps": 20, "warmup_steps": 0}, ("cmm", "min_zero_shot_weight"): {"steps": 3},
    ("cmm", "max_zero_shot_weight"): {"steps": 3},
    ("lfa", "n_evaluations"): {"steps": None},
    ("gpua", "batch_size"): {"loss": "adaptive"}, ("gpua", "random_state"): {"batch_size": 5},
    ("gpua", "loss"): {"preset": "paper"},
    ("gpua", "hubs"): {"preset": "paper"},
    ("gpua", "margin_scale"): {"preset": "paper"}, ("gpua", "class_prior"): {"preset": "paper"},
    **{("promptsrc", name): {"epochs": 2} for name in ("aggregated", "aggregation_mean", "aggregation_std")},
    ("cma", "alpha"): {"form": "sets"}, ("cma", "omega"): {"form": "sets"}, ("cma", "ridge"): {"form": "sets"},
    ("cma", "criterion"): {"form": "sets"}, ("fair", "trainable_options"): {"trainable": "k_adaptation"},
    ("dpa_like", "trainable_options"): {"trainable": "k_adaptation"},
    ("lafter_like", "trainable_options"): {"trainable": "k_adaptation"},
    ("fair", "image_temperature"): {"labeler": "wca"},
    **{("fair", name): {"labeler": "wca", "score_scale": "raw"} for name in ("wca_keep", "wca_weights")},
    ("fair", "text_temperature"): {"labeler": "wca", "score_scale": "raw"},
    ("clip_lora", "updates_per_shot"): {"epochs": None, "updates_per_shot": 2},
    ("dpa_like", "image_weight"): {"epochs": 2}, ("dpa_like", "alignment_weight"): {"epochs": 2},
    ("fair", "crop_weights"): {"score_scale": "raw"},
    ("fair", "refresh"): {"epochs": 2}, ("fair", "momentum"): {"epochs": 2},
}  # fmt: skip
"""Other parameters that one needs to have a part in the fit."""


def others(parameter: Parameter, value: Any) -> list[Any]:
    """Values that differ from the present one, likely ones first."""
    known: list[Any] = list(VALUES.get(parameter.name, ()))
    kinds = [parameter.annotation, *get_args(parameter.annotation)]
    known += [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if isinstance(value, bool):
        known += [not value]
    elif isinstance(value, (int, float)):
        known += [value // 2, value / 2, value + 1, 5, 2, 1, 0, 0.0, value * 2]
    else:
        known += [0.5, 2.0, 0.1, 30.0, 1, 2, 3]
    return [v for v in known if fits(v, parameter) and not np.array_equal(v, value)]


def outcome(method: Any, scores: np.ndarray, left_out: str) -> list[np.ndarray]:
    """The scores and everything numeric that was learned, without what repeats the parameter."""
    learned = {k: v for k, v in vars(method).items() if k.endswith("_") and k not in (f"{left_out}_", "logit_scale_")}
    arrays = [scores]
    for _, value in sorted(learned.items()):
        parts = [
            np.asarray(p) for p in (value.values() if isinstance(value, dict) else [value]) if not isinstance(p, dict)
        ]
        arrays += [part for part in parts if part.dtype.kind in "biuf" and part.ndim]
    return arrays


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


TEMPLATES = ("a photo of the digit {}.", "a drawing of {}, white on black.", "{}")
MODES = ("validation", "few to choose on", "nothing to choose on", "half labeled", "no labels", "crops")


def fit_vectors(name: str, mode: str, settings: dict[str, Any]) -> tuple[Any, np.ndarray] | None:
    """A method fitted in one situation, and its scores; None where it refuses."""
    data = few_shot(shots=4, noise=2.0, text_noise=1.6)
    base = {"steps": 8, "epochs": 2}
    method = quick(name)
    known = method.get_params()
    method.set_params(**{k: v for k, v in base.items() if k in known and isinstance(known[k], (int, type(None)))})
    try:
        method.set_params(**settings)
        text = np.stack([data.text, data.text + 0.3 * data.X[:5]], axis=1)
        X: Any = data.X
        if mode == "crops":
            noise = np.random.default_rng(0).normal(size=(len(X), 3, X.shape[1]))
            tokens = unit(torch.from_numpy(X[:, None] + 0.1 * noise)).numpy().astype(np.float32)
            X = Features(data.X, tokens=tokens)
        held = {"validation": len(data.yv), "few to choose on": 7, "half labeled": 7}.get(mode, 0)
        given = {"validation": (data.Xv[:held], data.yv[:held])} if held else {}
        labels = None if mode in ("no labels", "crops") and not method.needs_labels else data.y
        if mode == "half labeled":
            labels = np.where((np.arange(len(data.y)) % 2 == 0) & (data.y != 4), data.y, -1)
        method.fit(X, labels, text=text, **given)
    except InputError:
        return None
    return method, method.scores(X if mode == "crops" else data.Xt)


@cache
def plain_vectors(name: str, mode: str, beside: tuple[tuple[str, Any], ...]) -> tuple[Any, np.ndarray] | None:
    return fit_vectors(name, mode, dict(beside))


def used(name: str) -> list[Parameter]:
    own = (p for p in parameters(method_class(name)) if (name, p.name) not in EXEMPT)
    return [p for p in own if not any(word in p.meaning.lower() for word in ("not used", "ignored; present"))]


@pytest.mark.parametrize(
    ("name", "parameter"), [(n, p) for n in METHODS for p in used(n)], ids=lambda x: getattr(x, "name", x)
)
def test_on_vectors(name: str, parameter: Parameter) -> None:
    beside = BESIDE.get((name, parameter.name), {})
    value = beside.get(parameter.name, quick(name).get_params()[parameter.name])
    for mode in MODES:
        plain = plain_vectors(name, mode, tuple(beside.items()))
        for other in others(parameter, value) if plain is not None else []:
            found = fit_vectors(name, mode, {**beside, parameter.name: other})
            if found is not None and not same(*(outcome(*one, parameter.name) for one in (found, plain))):
                return
    pytest.fail(f"{name}: no other value of {parameter.name} changed anything")


def defining(cls: type, name: str) -> type:
    """The class that a parameter is defined in."""
    return next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))


def inside() -> dict[str, list[Parameter]]:
    """Tower method → its parameters; one that several inherit from a base is tried in the first of them."""
    seen: set[tuple[type, str]] = set()
    found: dict[str, list[Parameter]] = {}
    for name in TOWER_METHODS:
        keys = [(defining(method_class(name), p.name), p.name) for p in used(name)]
        found[name] = [p for p, key in zip(used(name), keys, strict=True) if key not in seen]
        seen |= set(keys)
    return found


@pytest.fixture(scope="module")
def pictures():
    encoder, items = ma.load_encoder("tiny", cache=False, dtype="float32"), load_digits()
    items = items.select([0, 1, 10, 11])
    items = replace(items, class_names=items.class_names[:2])
    text = encoder.embed_texts(sentences(items.class_names, TEMPLATES), class_names=items.class_names)
    return encoder, items, text


@pytest.mark.parametrize(("name", "own"), inside().items(), ids=TOWER_METHODS)
def test_inside_an_encoder(name: str, own: list[Parameter], pictures) -> None:
    encoder, items, text = pictures
    base = {"epochs": 1, "batch_size": 2, "augmentation": "center", "random_state": 0, "training": {"warmup": 0}}
    small = {"crops": 2, "keep": 1, "text_steps": 5, "prompts": 2}
    base |= {k: v for k, v in small.items() if k in method_class(name)().get_params()}

    def fit(left_out: str, settings: dict[str, Any]) -> list[np.ndarray] | None:
        try:
            method = method_class(name)(**{**base, **settings}).fit(items, text=text, encoder=encoder)
        except InputError:
            return None
        learned = [value.numpy() for _, value in sorted(method.tensors_.items())]
        return [method.score_images(items, encoder).logits, np.array(method.diagnosis_["loss"]), *learned]

    plain: dict[tuple[Any, ...], list[np.ndarray] | None] = {}
    idle = []
    for parameter in own:
        beside = BESIDE.get((name, parameter.name), {})
        key = tuple(sorted(beside.items()))
        if key not in plain:
            plain[key] = fit("", beside)
        before = plain[key]
        value = {**method_class(name)().get_params(), **base, **beside}[parameter.name]
        tried = (fit(parameter.name, {**beside, parameter.name: other}) for other in others(parameter, value))
        if not any(found is not None and not same(found, before or []) for found in tried):
            idle.append(parameter.name)
    assert not idle
