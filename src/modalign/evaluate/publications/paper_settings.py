"""The hyper-parameters that the papers print, per data set and protocol, under the names of this library.

Values that are only in the public code of a paper are taken from there; ``source`` states it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from modalign.core.errors import UnknownNameError, argument, hyperparameter, options_of_method
from modalign.data.splits.benchmarks import find_dataset
from modalign.methods import ALL_METHODS, TOWER_METHODS, is_known, method_class, method_name
from modalign.methods.contract.parameters import parameters

PROTOCOLS = (
    "few-shot", "base-to-new", "cross-dataset", "domain", "long-tail", "inductive", "transductive", "segmentation"
)  # fmt: skip
SOURCE_PROTOCOLS = ("cross-dataset", "domain")  # trained once, on all classes of ImageNet

_CROP, _FLIP, _RANDOM = "random_resized_crop", "random_resized_crop_flip", "randaugment"

# data set: ν, m, global prompts, augmentation, batch size, epochs
DamRow = tuple[int, float, int, str, int, int]
DAM_SETS: dict[str, DamRow] = {
    "imagenet": (9, 0.1, 2, _CROP, 4, 10),
    "caltech101": (8, 0.1, 2, _RANDOM, 8, 15),
    "oxford_pets": (7, 0.1, 2, _CROP, 8, 15),
    "stanford_cars": (6, 0.2, 2, _CROP, 8, 15),
    "oxford_flowers": (8, 0.9, 4, _CROP, 8, 15),
    "food101": (8, 0.1, 2, _CROP, 8, 15),
    "fgvc_aircraft": (4, 0.5, 4, _FLIP, 8, 15),
    "sun397": (6, 0.1, 2, _CROP, 8, 15),
    "dtd": (8, 0.2, 2, _RANDOM, 8, 15),
    "eurosat": (7, 0.4, 4, _RANDOM, 8, 15),
    "ucf101": (7, 0.1, 2, _CROP, 8, 15),
}
DAM_SOURCE: DamRow = (7, 0.1, 2, _FLIP, 4, 5)

CMM_FUSION = {  # β
    "caltech101": 0.7, "dtd": 0.6, "eurosat": 0.8, "fgvc_aircraft": 0.6, "food101": 0.2, "imagenet": 0.3,
    "oxford_flowers": 0.6, "oxford_pets": 0.2, "stanford_cars": 0.6, "sun397": 0.5, "ucf101": 0.3,
}  # fmt: skip

GPUA_STEPS = {  # T of the mining, steps of the refinement
    "caltech101": (5, 1000), "dtd": (5, 1000), "eurosat": (5, 100), "food101": (5, 200), "fgvc_aircraft": (1, 1000),
    "oxford_flowers": (1, 100), "oxford_pets": (3, 100), "stanford_cars": (1, 1000), "sun397": (5, 100),
    "ucf101": (3, 200), "imagenet": (3, 200),
}  # fmt: skip

FAIR_SENTENCES = {  # per class, of CuPL
    "caltech101": "30", "dtd": "60", "eurosat": "25", "food101": "30", "oxford_flowers": "20", "oxford_pets": "20",
    "sun397": "30", "stanford_cars": "90", "cifar10": "30", "cifar100": "40", "ucf101": "50", "cub": "31 to 40",
    "resisc45": "50", "aid": "50",
}  # fmt: skip
_FLOAT32 = {"training": {"precision": "float32"}}  # of methods inside the encoder: no choice by the machine
FAIR_SLOW = ("food101", "sun397")  # with a learning rate of 1e-6


@dataclass(frozen=True)
class PaperSettings:
    """The settings of one method on one data set as they are printed.

    Attributes
    ----------
    parameters : dict of str to value
        Hyper-parameters of the method's class. Empty where nothing is printed.
    source : str
        Paper and table or section; ``""`` where nothing is printed.
    notes : tuple of str
        What the parameters cannot express, one sentence each.
    """

    parameters: dict[str, Any]
    source: str
    notes: tuple[str, ...] = ()


def paper_settings(method: str, dataset: str, *, protocol: str = "few-shot", shots: int | None = None) -> PaperSettings:
    """Return the hyper-parameters that a paper prints for a method on a data set.

    Parameters
    ----------
    method : str
        Name of a method, as in ``modalign list``.
    dataset : str
        Data set that the method is trained on. One that the paper does not have gets the settings common to all sets
        and a note. Not used with ``"cross-dataset"`` and ``"domain"``, which train on ImageNet.
    protocol : str, default="few-shot"
        One of ``PROTOCOLS``.
    shots : int or None, default=None
        Labeled images per class; None is 16.

    Returns
    -------
    PaperSettings
        With empty ``parameters`` and a note where no settings are printed; the defaults of the method apply then.

    Raises
    ------
    UnknownNameError
        Unknown method or protocol.

    Examples
    --------
    >>> paper_settings("maple", "imagenet", protocol="cross-dataset").parameters["learning_rate"]
    0.0026
    """
    name = method_name(method)
    if not is_known(name):
        raise UnknownNameError("method", method, ALL_METHODS)
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    if name not in _PRINTED:
        return PaperSettings({}, "", (f"The library has no published settings for {name}; its defaults are used.",))
    row = find_dataset(dataset)
    known = "" if row is None else row.name
    with options_of_method(name):
        found = _PRINTED[name](known, protocol, 16 if shots is None else shots)
    return replace(found, parameters=found.parameters | _FLOAT32) if name in TOWER_METHODS else found


def _coop(dataset: str, protocol: str, shots: int) -> PaperSettings:
    epochs = 50 if dataset == "imagenet" or shots < 2 else 100 if shots < 8 else 200
    return PaperSettings(
        {"n_ctx": 16, "learning_rate": 0.002, "batch_size": 32, "epochs": epochs},
        "Zhou et al., Learning to prompt for vision-language models, Section 4",
        _elsewhere(protocol, "few-shot"),
    )


def _maple(dataset: str, protocol: str, shots: int) -> PaperSettings:
    if protocol in SOURCE_PROTOCOLS:
        changing: dict[str, Any] = {"depth": 3, "learning_rate": 0.0026, "epochs": 2}
    else:
        changing = {"depth": 9, "learning_rate": 0.0035, "epochs": 5}
    return PaperSettings(
        {"n_ctx": 2, "batch_size": 4, **changing},
        "Khattak et al., MaPLe, Section 4.1",
        _elsewhere(protocol, "base-to-new", *SOURCE_PROTOCOLS),
    )


def _promptsrc(dataset: str, protocol: str, shots: int) -> PaperSettings:
    if protocol in SOURCE_PROTOCOLS:
        changing: dict[str, Any] = {"depth": 3, "aggregation_mean": 6.0, "aggregation_std": 10.0}
    else:
        changing = {"depth": 9, "aggregation_mean": 15.0, "aggregation_std": 1.0}
    return PaperSettings(
        {"n_ctx": 4, "epochs": 20, "batch_size": 4, "learning_rate": 0.0025, **changing},
        "Khattak et al., PromptSRC, configurations of its public code",
        _elsewhere(protocol, "base-to-new", *SOURCE_PROTOCOLS),
    )


def _align(dataset: str, protocol: str, shots: int) -> PaperSettings:
    source = protocol in SOURCE_PROTOCOLS
    epochs = 2 if source else 8 if protocol == "base-to-new" else 40 if shots >= 8 else 10
    return PaperSettings(
        {
            "preset": "paper", "visual": 4, "textual": 4, "n_ctx": 2, "token_weight": 1.0, "epsilon": 0.1,
            "value": "entropic", "sweeps": 100, "learning_rate": 0.0026 if source else 0.0035, "batch_size": 4,
            "epochs": epochs, "augmentation": _FLIP,
        },
        "ALIGN, Section 5.1, Appendix B and Table B.2; value from equations 4 and 5",
        ("Precision fp16 is not available; float32 is used.",
         *_elsewhere(protocol, "few-shot", "base-to-new", *SOURCE_PROTOCOLS)),
    )  # fmt: skip


def _dam(dataset: str, protocol: str, shots: int) -> PaperSettings:
    source = protocol in SOURCE_PROTOCOLS
    files = f"{argument('descriptions')} and {hyperparameter('structures')}"
    notes = [f"Descriptions and structures of the classes are files; give them by {files}."]
    if source:
        row = DAM_SOURCE
    elif dataset in DAM_SETS:
        row = DAM_SETS[dataset]
    else:
        row = (8, 0.1, 2, _CROP, 8, 15)
        notes.append("The paper does not have this data set; its most frequent values are used.")
    weight, mixing, prompts, augmentation, batch, epochs = row
    return PaperSettings(
        {
            "preset": "official_code", "loss_weight": float(weight), "aligned_weight": mixing,
            "global_prompts": prompts, "augmentation": augmentation, "batch_size": batch, "epochs": epochs,
            "learning_rate": 0.0025 if protocol == "base-to-new" else 0.001,
            "text_map": "shared" if source else "own",
        },
        "DAM, Section IV.B (loss_weight, learning_rate, text_map); the others from its public code",
        (*notes, *_elsewhere(protocol, "base-to-new", "long-tail", *SOURCE_PROTOCOLS)),
    )  # fmt: skip


def _hpt(dataset: str, protocol: str, shots: int) -> PaperSettings:
    found = _dam(dataset, protocol, shots)
    own = {p.name for p in parameters(method_class("hpt"))}
    return replace(
        found,
        parameters={name: value for name, value in found.parameters.items() if name in own},
        source="DAM, Section IV.B (learning_rate); the others from its public code, of which HPT is the part without "
        "alignment",
    )


def _cmm(dataset: str, protocol: str, shots: int) -> PaperSettings:
    notes = [
        "Learning rate, decay and minimum rate are not legible in the paper; those of its code lineage are used.",
        "Its 50 warm-up epochs are read as steps, since 16,000 steps may be fewer than 50 epochs.",
    ]
    if dataset in CMM_FUSION:
        notes.append("The paper does not say for how many images its β was best; 'auto' searches β again.")
    else:
        notes.append("The paper does not have this data set; β is searched on the validation images.")
    return PaperSettings(
        {"preset": "paper", "steps": 16_000, "batch_size": 8, "warmup_steps": 50, "margin": 1.0,
         "training_zero_shot_weight": 1.0, "zero_shot_weight": CMM_FUSION.get(dataset, "auto")},
        "CMM, Section 4.1; zero_shot_weight from Table 9",
        (*notes, *_elsewhere(protocol, "few-shot", "domain")),
    )  # fmt: skip


def _fair(dataset: str, protocol: str, shots: int) -> PaperSettings:
    notes = ["Algorithm 1 cuts crops from the weakly augmented view."]
    if dataset in FAIR_SENTENCES:
        notes.append(f"The paper has {FAIR_SENTENCES[dataset]} sentences of CuPL per class.")
    else:
        notes.append("The paper does not have this data set; the common settings are used.")
    return PaperSettings(
        {
            "trainable": "layer_norms", "crops": 16, "keep": 4, "smallest_crop": 0.5, "largest_crop": 0.9,
            "learning_rate": 1e-6 if dataset in FAIR_SLOW else 1e-4, "batch_size": 32, "epochs": 15,
            "augmentation": "strong",
        },
        "FAIR, Section 4 and Supplement 6.1",
        (*notes, *_elsewhere(protocol, "inductive", "transductive")),
    )  # fmt: skip


def _reclip(dataset: str, protocol: str, shots: int) -> PaperSettings:
    return PaperSettings(
        {"epochs": 50, "batch_size": 64, "learning_rate": 1e-3, "neighbors": 20, "alpha": 0.99},
        "FAIR, Supplement 7.3 (epochs); the others from the public code of ReCLIP",
        _elsewhere(protocol, "inductive", "transductive"),
    )


def _gpua(dataset: str, protocol: str, shots: int) -> PaperSettings:
    settings: dict[str, Any] = {"preset": "paper", "semantic_weight": 0.9, "epsilon": 0.01, "class_prior": "uniform"}
    notes = [
        "The public code refines by AdamW on three quarters of the images, the paper by plain gradient steps.",
    ]
    if dataset in GPUA_STEPS and protocol != "segmentation":
        settings["max_iterations"], settings["steps"] = GPUA_STEPS[dataset]
        source = "GPUA, Appendix C; max_iterations and steps from its public code"
    else:
        notes.append("Numbers of iterations and steps are not stated for this data set; the defaults are used.")
        source = "GPUA, Appendix C"
    return PaperSettings(settings, source, (*notes, *_elsewhere(protocol, "inductive", "transductive", "segmentation")))


def _elsewhere(protocol: str, *printed: str) -> tuple[str, ...]:
    """A note where the paper has no experiment of the protocol."""
    if protocol in printed:
        return ()
    listed = " and ".join(filter(None, [", ".join(printed[:-1]), printed[-1]]))
    return (f"The paper has no {protocol} experiment; these are its settings for {listed}.",)


_PRINTED = {
    "coop": _coop, "maple": _maple, "promptsrc": _promptsrc, "align": _align, "dam": _dam, "hpt": _hpt, "cmm": _cmm,
    "fair": _fair, "reclip": _reclip, "gpua": _gpua,
}  # fmt: skip
