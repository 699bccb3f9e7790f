"""Command line that reproduces a printed number, given images and weights."""

from __future__ import annotations

import json
import re
from typing import Literal

from modalign.evaluate.publications.paper_settings import SOURCE_PROTOCOLS
from modalign.evaluate.publications.printed_methods import built_method
from modalign.evaluate.publications.published_number import Published

ROOT = "ROOT"  # stands for the data root

_CLIP_16 = "openai/clip-vit-base-patch16"
ENCODERS = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "ViT-B/16": _CLIP_16,
    "CLIP ViT-B/16": _CLIP_16,
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "MetaCLIP ViT-B/32": "facebook/metaclip-b32-400m",
    "DINOv2 and CLIP ViT-B/16": f"facebook/dinov2-base+{_CLIP_16}",
    "DINOv3 and CLIP ViT-B/16": f"facebook/dinov3-vitb16-pretrain-lvd1689m+{_CLIP_16}",
    "not stated": _CLIP_16,
}
"""Name on the hub of each printed backbone."""

_PROTOCOLS = {
    "few-shot": "few-shot",
    "zero-shot": "inductive",
    "base-to-new": "base-to-new",
    "cross-dataset": "cross-dataset",
    "domain generalization": "domain",
    "unsupervised, inductive": "inductive",
    "unsupervised, transductive": "transductive",
    "learned hyper-parameters": "base-to-new",
    "segmentation": "segmentation",
}
SEGMENTERS = {"clip": "CLIP", "maskclip": "MaskCLIP", "sclip": "SCLIP", "scclip": "SC-CLIP", "proxy": "ProxyCLIP"}
"""Features of ``modalign segment`` and what the method is called in tables, alone or with the map of GPUA."""
ImagesOf = Literal["one", "both", "vision", "clip"]
"""Whose vectors are used: those of the only encoder; of a vision-only one and CLIP, or of one of the two."""
_SUBSTITUTES = "tiny-vision+tiny"  # of a vision-only encoder and CLIP
_OF_CLIP_ALONE = ("GPUA, CLIP features only", "GPUA, semantic scores only")
_OF_PAPER = {"cmm": "few-shot", "dam": "base-to-new", "fair": "inductive", "gpua": "inductive"}


def protocol_of(number: Published) -> str:
    """The protocol of a number, as in ``modalign bench``; of ablations and costs that of the paper's main table."""
    if number.setting.startswith("long tail"):
        return "long-tail"
    return _PROTOCOLS.get(number.setting) or _OF_PAPER[number.paper]


def encoder_of(backbone: str) -> str:
    """The name on the hub of a printed backbone."""
    return ENCODERS[backbone]


def images_of(number: Published) -> ImagesOf:
    """Whose vectors of the images a row uses, by its name where the backbone is a vision-only encoder and CLIP."""
    if "+" not in encoder_of(number.backbone):
        return "one"
    return "vision" if "vision" in number.method else "clip" if number.method in _OF_CLIP_ALONE else "both"


def encoders_of(number: Published) -> tuple[str, str]:
    """Encoder of the images of a row, and that of the class text where it is another one, else ``""``."""
    return encoder_parts(encoder_of(number.backbone), images_of(number))


def encoder_parts(encoder: str, images: ImagesOf) -> tuple[str, str]:
    """The same for ``"vision+clip"``, or for one encoder."""
    vision, _, clip = encoder.rpartition("+")
    return {"vision": (vision, clip), "clip": (clip, "")}.get(images, (encoder, ""))


def unlabeled_per_class(number: Published) -> int | None:
    """Unlabeled images per class that a row learned from; None for all.

    GPUA's ablations repeat the values of 16 images per class in Table 1.
    """
    if (number.paper, number.setting) == ("gpua", "ablation"):
        return 16
    found = re.search(r"(\d+) (?:unlabeled )?images per class", number.method)
    return int(found[1]) if found else None


def sentences_of(number: Published) -> str | None:
    """What stands for the sentences in a command: ``"CUPL"`` or ``"HPT"`` for their folders, ``"SENTENCES"`` for files
    of another language model, ``""`` for templates; None where prompts are learned."""
    if number.prompts == "learned":
        return None
    kinds = {"CuPL": "CUPL", "structures": "HPT", "language model": "SENTENCES"}
    return next((word for kind, word in kinds.items() if kind in number.prompts), "")


def bench_command(number: Published, source: str = ROOT) -> str:
    """``modalign bench …`` for a number; ``""`` where it has no protocol there or the method is not built.

    Parameters
    ----------
    number : Published
        Published.
    source : str, default="ROOT"
        The data root; ``"FEATURES"`` for a folder of features, which need no encoder.
    """
    if protocol_of(number) == "segmentation":
        return _segment_command(number)
    encoder = _encoders(*encoders_of(number)) if source == ROOT else []
    described = ["--descriptions", words] if (words := sentences_of(number)) else []
    return _command(number, source, ["--datasets", _sets(number)], [*encoder, *described, "--settings", "paper"])


def substitute_command(number: Published) -> str:
    """The same protocol and method on the digits of scikit-learn; ``""`` where it has no protocol there."""
    images = images_of(number)
    return _command(number, "digits", [], [] if images == "one" else _encoders(*encoder_parts(_SUBSTITUTES, images)))


def _encoders(images: str, text: str) -> list[str]:
    return ["--encoder", images, *(["--clip-encoder", text] if text else [])]


def _segment_command(number: Published) -> str:
    """``modalign segment --dataset …`` for a number of segmentation; ``""`` where the method is not built."""
    plain = number.method.removesuffix(" + GPUA")
    features = next((kind for kind, method in SEGMENTERS.items() if method == plain), None)
    if features is None:
        return ""
    vision, _, clip = encoder_of(number.backbone).rpartition("+")
    words = ["modalign segment --dataset", number.dataset, "--root", ROOT, "--features", features, "--encoder", clip]
    if features == "proxy":
        words += ["--vfm", "facebook/dino-vitb8"]
    return " ".join([*words, "--gpua", vision] if number.method != plain else words)


def _command(number: Published, source: str, datasets: list[str], settings: list[str]) -> str:
    method, protocol = built_method(number.method), protocol_of(number)
    if method is None or protocol == "segmentation":
        return ""
    words = ["modalign bench", source, "--protocol", protocol, "--methods", method.name, *datasets]
    if protocol == "long-tail":
        words += ["--imbalances", number.setting.rpartition(" ")[2]]
    elif number.shots and protocol not in ("inductive", "transductive"):
        words += ["--shots", str(number.shots)]
    if per_class := unlabeled_per_class(number):
        words += ["--per-class", str(per_class)]
    words += settings
    for name, value in method.changes.items():
        words += ["--set", assignment(method.name, name, value)]
    return " ".join(words)


def assignment(method: str, name: str, value: object) -> str:
    """A hyper-parameter as ``--set`` takes it, such as ``"cmm.steps=100"``."""
    return f"{method}.{name}={value if isinstance(value, str) else json.dumps(value)}"


def _sets(number: Published) -> str:
    """The data sets of a command; transfer protocols name their source first."""
    if protocol_of(number) in SOURCE_PROTOCOLS:
        return "all" if number.dataset in ("average", "imagenet") else f"imagenet,{number.dataset}"
    return "all" if number.dataset in ("average", "not stated") else number.dataset
