"""From images to an adapted classifier, in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modalign.adaptation.encoder_pair import EncoderPair, trainable_encoder
from modalign.adaptation.images import read_items, split_items
from modalign.adaptation.settings import configure, split_crops
from modalign.classifier import Classifier, calibrate, content_hash, score
from modalign.data.items import Items
from modalign.data.prompts import class_sentences, sentence_notes
from modalign.encoders.base import VIEWS
from modalign.encoders.joined import JoinedEncoder
from modalign.errors import InputError
from modalign.features import Features, Quarantined, Scored, concatenate
from modalign.linalg.rejection import Rejection, fit_rejection
from modalign.methods.base import VectorMethod
from modalign.methods.tower import TowerMethod

if TYPE_CHECKING:
    from modalign.data.split import Split
    from modalign.encoders.base import Encoder


def adapt(
    images: Any,
    *,
    encoder: str | Encoder | JoinedEncoder = "tiny",
    anchor: str | Encoder | None = None,
    method: str | VectorMethod | TowerMethod = "cmm",
    shots: int | None = None,
    classes: Sequence[str] | str | Path | None = None,
    unlabelled: bool = False,
    split: str | Path | Split | None = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    mirror: bool | None = None,
    crops: int = 0,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    **hyperparameters: Any,
) -> Classifier:
    """From images to an adapted classifier.

    Parameters
    ----------
    images : a folder with one sub-folder a class, a CSV, a list, an archive, or :class:`~modalign.Items`.
    encoder : a name for :func:`~modalign.load_encoder`, or what it returned; ``"a+b"`` puts two side by side.
    anchor : a vision-language encoder that is needed for learning only, where ``encoder`` has never seen text and the
        method maps its space to that of language (GPUA); the classifier then runs on ``encoder`` alone.
    method : a name (see ``modalign list``) or an unfitted method.
    shots : training images a class; None uses all but a held-out part for validation.
    classes : class names, or a file of them, where the folders do not say it well.
    unlabelled : take no label from the folders or lists; ``classes`` then says what there may be.
    split : a split file, or a split of the given items. Default: what the source marks; its test images are never
        used, its validation images serve as that. See :func:`~modalign.load_items`.
    templates : sentences with ``{}`` for the class name.
    descriptions : a JSON file of sentences a class (CuPL or HPT layout); with templates too, those come first.
    mirror : also train on mirrored images; None does what the method was published with.
    crops : squares to cut from every image for a method that looks at parts of pictures, half to nine tenths of the
        short side each. Methods on vectors (WCA, FAIR on vectors) see whole images only where it is 0, and otherwise
        cost ``crops`` + 1 forward passes an image, once; one that cuts its own (FAIR) has its own default.
    random_state : decides the split and everything random in the method.
    device : where the encoder runs if ``encoder`` is a name.
    checkpoint : a folder for the state of a training inside the encoder; run again after an interruption, it goes on.
    **hyperparameters : passed to the method.

    Raises
    ------
    InputError : before any image is encoded, in one sentence.
    """
    started = time.perf_counter()
    items = read_items(images, classes, unlabelled, split)
    crops, hyperparameters = split_crops(method, crops, mirror, hyperparameters)
    method = configure(method, hyperparameters, random_state)
    split = split_items(items, shots, method, random_state)
    lines = class_sentences(items.class_names, templates, descriptions)
    train = items if split is None else items.select(split.train)
    held_out = None if split is None or not len(split.validation) else items.select(split.validation)
    if isinstance(method, TowerMethod):
        encoder = trainable_encoder(encoder, anchor, mirror, device)
        text = encoder.embed_texts(lines, class_names=items.class_names)
        method.fit(train, text=text, encoder=encoder, checkpoint=checkpoint)
        seen, fitted = train, {"mirror": False, "train": len(train) - method.diagnosis_["left_out"]}
    else:
        if checkpoint is not None:
            raise InputError(
                f"{type(method).__name__} learns from vectors in one go and keeps no checkpoint; leave it out."
            )
        mirror = method.mirrors if mirror is None else mirror
        encoder, seen, held_out = _fit_vectors(method, train, held_out, lines, encoder, anchor, mirror, crops, device)
        fitted = {"mirror": mirror, "train": len(seen) // (1 + mirror)}

    spoken = encoder.has_text or anchor is not None
    told = sentence_notes(items.class_names, templates, descriptions) if spoken else ()
    known = None if held_out is None else score(encoder, method, held_out)
    reference = score(encoder, method, seen) if split is None else known
    temperature = 1.0 if known is None else calibrate(known)
    parts = ((), ()) if split is None else (split.train, split.validation)
    learned, validated = (frozenset(content_hash(items, i) for i in part) - {""} for part in parts)
    return Classifier(
        encoder=encoder,
        method=method,
        class_names=items.class_names,
        temperature=temperature,
        fitted_on=learned | validated,
        validated_on=validated - learned,
        rejection=None if reference is None else _rejection(reference, temperature, labelled=known is not None),
        record={
            "shots": shots,
            "random_state": getattr(method, "random_state", random_state),
            "mirror": fitted["mirror"],
            "crops": crops,
            "images": {"train": fitted["train"], "validation": 0 if known is None else len(known.ids)},
            "calibrated": known is not None,
            "sentences": [list(s) for s in lines],
            "notes": [*items.notes, *told, *(() if split is None else split.notes)],
            "quarantined": [asdict(q) for q in _left_out(items, seen, known)],
            "seconds": round(time.perf_counter() - started, 3),
        },
        crops=crops,
    )


def _fit_vectors(
    method: VectorMethod,
    train: Items,
    held_out: Items | None,
    lines: list[list[str]],
    encoder: str | Encoder | JoinedEncoder,
    anchor: str | Encoder | None,
    mirror: bool,
    crops: int,
    device: str,
) -> tuple[Encoder | JoinedEncoder, Features, Features | None]:
    """Embed and fit; the encoder that the classifier keeps, the vectors that were learned from, and those held out."""
    eyes = EncoderPair.open(encoder, anchor, method, device)
    if crops and isinstance(eyes.encoder, JoinedEncoder):
        raise InputError(f"Expected one encoder to see crops with, got '{eyes.encoder.name}'; leave crops out.")
    text = eyes.language.embed_texts(lines, class_names=train.class_names) if eyes.language else None
    views = [eyes.see(train, view, crops) for view in (VIEWS if mirror else VIEWS[:1])]
    X = concatenate([x for x, _ in views])
    asked = crops if method.scores_parts else 0
    validation = None if held_out is None else eyes.see(held_out, VIEWS[0], asked)[0]
    aligned = {} if views[0][1] is None else {"anchor": concatenate([a for _, a in views])}
    method.fit(X, text=text, validation=validation, **aligned)
    return eyes.encoder, X, validation


def _left_out(items: Items, seen: Features | Items, known: Scored | None) -> list[Quarantined]:
    """Everything that was given and could not be used, once."""
    return list(dict.fromkeys([*items.quarantined, *seen.quarantined, *(known.quarantined if known else ())]))


def _rejection(reference: Scored, temperature: float, *, labelled: bool) -> Rejection:
    """From validation images; where there are no labels at all, from the images fitted on, taken to be known."""
    logits = torch.from_numpy(reference.logits / temperature)
    return fit_rejection(logits, torch.from_numpy(reference.labels) if labelled else None)
