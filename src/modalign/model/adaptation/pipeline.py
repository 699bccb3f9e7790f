"""Adaptation of a classifier to images in one call."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.renaming import renamed_arguments
from modalign.data.copies import content_hash
from modalign.data.text.descriptions import class_sentences, sentence_notes
from modalign.encoders.clip import ClipEncoder
from modalign.evaluate.class_sizes import estimated_sizes, with_class_sizes
from modalign.evaluate.outcome import about_encoder, held_out_outcome, no_outcome, unlabeled_outcome
from modalign.linalg.rejection import Rejection, fit_rejection
from modalign.methods.auto.auto import Auto
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.adaptation.encoder_pair import EncoderPair, trainable_encoder
from modalign.model.adaptation.fitting import FitTask, Fitted, fit_tower, fit_vectors
from modalign.model.adaptation.holdout import Validation, plan_holdout
from modalign.model.adaptation.images import read_items
from modalign.model.adaptation.settings import configure, split_crops
from modalign.model.adaptation.tower_choice import SECONDS as TOWER_SECONDS
from modalign.model.adaptation.tower_choice import TowerChoice
from modalign.model.classifier import Classifier
from modalign.model.scoring import calibrate

if TYPE_CHECKING:
    from modalign.data.splits.split import Split
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder


@renamed_arguments(anchor="clip_encoder", unlabelled="unlabeled")
def adapt(
    images: Any,
    *,
    encoder: str | Encoder | JoinedEncoder = "tiny",
    clip_encoder: str | Encoder | None = None,
    method: str | VectorMethod | TowerMethod = "auto",
    shots: int | None = None,
    validation: Validation = "auto",
    classes: Sequence[str] | str | Path | None = None,
    unlabeled: bool = False,
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
    """Adapt a classifier to images.

    Parameters
    ----------
    images : object
        A folder with one sub-folder per class, a CSV, a list, an archive, or :class:`~modalign.Items`.
    encoder : str, Encoder or JoinedEncoder, default="tiny"
        A name for :func:`~modalign.load_encoder`, or what it returned; ``"a+b"`` puts two side by side.
    clip_encoder : str, Encoder or None, default=None
        A vision-language encoder that is needed for learning only, where ``encoder`` has never seen text and the method
        maps its space to that of language (GPUA); the classifier then runs on ``encoder`` alone.
    method : str, VectorMethod or TowerMethod, default="auto"
        A name (see ``modalign list``) or an unfitted method. ``"auto"`` tries several on held-out images and keeps the
        best combination, within ``seconds`` (20 by default) beyond embedding. With 300 seconds or more, embedding
        included, it also tries CoOp, CLIP-LoRA and MaPLe inside the encoder, as far as they can end in time, and takes
        one that is surely better on held-out images.
    shots : int or None, default=None
        Training images per class; None uses all. Where predictions are cross-fitted, min(shots, 4) images per class
        more are used, which would otherwise validate, and teach as well.
    validation : {"auto", "cross", "none"}, int or float, default="auto"
        How predictions of held-out images come about, on which the temperature, the rejection threshold, the reported
        accuracy and what a method chooses rest. A number of images per class or a share of them is held out for
        validation, as far as there are so many, from the validation list of the source if it has one. ``"cross"``
        cross-fits: each of five folds is predicted by a model fitted to the others, and the final model learns from all
        labeled images. ``"none"`` holds nothing out. ``"auto"`` takes the validation list of the source, else
        cross-fits methods on vectors with up to 2,000 labeled images, and otherwise holds out a fifth of each class, at
        least 19 images in all.
    classes : sequence of str, str, Path or None, default=None
        Class names, or a file of them, where the folders do not say it well.
    unlabeled : bool, default=False
        Take no label from the folders or lists; ``classes`` then says what there may be.
    split : str, Path, Split or None, default=None
        A split file, or a split of the given items. Default: what the source marks; its test images are never used, its
        validation images serve as that. See :func:`~modalign.load_items`.
    templates : str, sequence of str or None, default=None
        Sentences with ``{}`` for the class name.
    descriptions : str, Path or None, default=None
        A JSON file of sentences per class (CuPL or HPT layout); with templates too, those come first.
    mirror : bool or None, default=None
        Also train on mirrored images; None does what the method was published with.
    crops : int, default=0
        Squares to cut from every image for a method that looks at parts of pictures, half to nine tenths of the short
        side each. Methods on vectors (WCA, FAIR on vectors) see whole images only where it is 0, and otherwise cost
        ``crops`` + 1 forward passes per image, once; one that cuts its own (FAIR) has its own default.
    random_state : int, default=0
        Decides the split and everything random in the method.
    device : str, default="auto"
        Where the encoder runs if ``encoder`` is a name.
    checkpoint : str, Path or None, default=None
        A folder for the state of a training inside the encoder; run again after an interruption, it goes on.
    **hyperparameters
        Passed to the method.

    Raises
    ------
    InputError
        Before any image is encoded, in one sentence.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method="zero_shot", mirror=False)
    >>> model
    Classifier(ZeroShot on 'tiny', 10 classes: 'zero', 'one', 'two' and 7 more; fitted on 30 images)
    >>> model.predict(digits.select([0])).names
    ('zero',)
    """
    started = time.perf_counter()
    items = read_items(images, classes, unlabeled, split)
    crops, hyperparameters = split_crops(method, crops, mirror, hyperparameters)
    method = configure(method, hyperparameters, random_state, _arguments())
    holdout = plan_holdout(items, shots, validation, method, random_state)
    task = FitTask(
        items, holdout, class_sentences(items.class_names, templates, descriptions), random_state=random_state
    )
    candidates: list[dict[str, Any]] = []
    if isinstance(method, TowerMethod):
        fitted = fit_tower(method, trainable_encoder(encoder, clip_encoder, mirror, device), task, checkpoint)
    else:
        if checkpoint is not None:
            raise InputError(
                f"{type(method).__name__} learns from vectors in one go and keeps no checkpoint; leave it out."
            )
        task, began = replace(task, mirror=method.mirrors if mirror is None else mirror, crops=crops), time.monotonic()
        fitted = fit_vectors(method, EncoderPair.open(encoder, clip_encoder, method, device, crops), task)
        if isinstance(method, Auto):
            towers = partial(trainable_encoder, encoder, clip_encoder, None, device)
            method, fitted, candidates = _beside_towers(method, fitted, task, towers, began)
    known = fitted.held_out
    temperature = 1.0 if known is None else calibrate(known)
    parts = ((), ()) if holdout is None else (holdout.learn, holdout.validation)
    learned, validated = (frozenset(content_hash(items, i) for i in part) - {""} for part in parts)
    spoken = fitted.encoder.has_text or clip_encoder is not None
    told = sentence_notes(items.class_names, templates, descriptions) if spoken else ()
    outcome = _outcome(method, fitted, items.class_names)
    return Classifier(
        encoder=fitted.encoder,
        method=method,
        class_names=items.class_names,
        temperature=temperature,
        fitted_on=learned | validated,
        validated_on=validated - learned,
        rejection=_rejection(fitted, temperature),
        record={
            "shots": shots,
            "random_state": getattr(method, "random_state", random_state),
            "mirror": task.mirror,
            "crops": crops,
            "images": {"train": fitted.train, "validation": 0 if holdout is None else len(holdout.validation)},
            "validation": {
                "asked": validation,
                "random_state": random_state,
                "how": fitted.how,
                "images": 0 if known is None else len(known.ids),
                "labeled": 0 if holdout is None else holdout.labeled,
                "chosen": fitted.chosen,
            },
            "outcome": outcome,
            "candidates": candidates,
            "calibrated": known is not None,
            "sentences": [list(s) for s in task.prompts],
            "notes": [*items.notes, *told, *(() if holdout is None else holdout.notes), *fitted.notes],
            "quarantined": [asdict(q) for q in dict.fromkeys([*items.quarantined, *fitted.quarantined])],
            "seconds": round(time.perf_counter() - started, 3),
        },
        crops=crops,
    )


def _arguments() -> list[str]:
    """The keyword arguments of :func:`adapt`, which a misspelled hyper-parameter may stand for."""
    return [name for name, p in inspect.signature(adapt).parameters.items() if p.kind is p.KEYWORD_ONLY]


def _beside_towers(
    auto: Auto, fitted: Fitted, task: FitTask, encoder: Callable[[], ClipEncoder], began: float
) -> tuple[VectorMethod | TowerMethod, Fitted, list[dict[str, Any]]]:
    """The ensemble or a method inside the encoder, what came of it, and the table of all candidates.

    Methods inside the encoder are tried with much time, one CLIP that sees whole images, and predictions to beat.
    """
    suits = isinstance(fitted.encoder, ClipEncoder) and not task.mirror and not task.crops
    if not suits or fitted.held_out is None or (auto.seconds or 0.0) < TOWER_SECONDS:
        return auto, fitted, auto.table_
    choice = TowerChoice(task, encoder(), fitted, began + (auto.seconds or 0.0))
    found = choice.run()
    method, chosen = found or (auto, fitted)
    table = auto.table_ if found is None else [row | {"weight": 0.0} for row in auto.table_]
    return method, replace(chosen, notes=(*fitted.notes, *choice.notes)), [*table, *choice.table]


def _outcome(method: VectorMethod | TowerMethod, fitted: Fitted, class_names: tuple[str, ...]) -> dict[str, Any]:
    """What the fit achieved, with all notes on it."""
    learns = not isinstance(method, ZeroShot)
    if fitted.held_out is not None:
        found = held_out_outcome(
            fitted.held_out,
            fitted.zero_shot,
            class_names=class_names,
            title=method.title,
            how=fitted.how,
            learns=learns,
        )
    elif fitted.seen is not None:
        answers = method.transduction_[: fitted.train] if hasattr(method, "fitted_answers_") else None
        found = unlabeled_outcome(
            fitted.seen, fitted.zero_shot, class_names=class_names, learns=learns, answers=answers
        )
    else:
        found = no_outcome(class_names)
    if fitted.seen is not None or not getattr(method, "takes_labels", method.needs_labels):
        assigned = getattr(method, "transduction_", None if fitted.seen is None else fitted.seen.logits.argmax(axis=1))
        if assigned is not None:
            estimated = estimated_sizes(method, len(class_names))
            found = with_class_sizes(found, np.asarray(assigned), class_names, estimated)
    guesses = found["zero_shot"] is not None and found["zero_shot"]["low"] <= found["chance"]
    told = about_encoder(fitted.encoder.name, class_names, guesses=guesses)
    return found | {"notes": [*found["notes"], *told]}


def _rejection(fitted: Fitted, temperature: float) -> Rejection | None:
    """From held-out images; where there are no labels at all, from the images fitted on, taken to be known."""
    reference = fitted.held_out or fitted.seen
    if reference is None:
        return None
    logits = torch.from_numpy(reference.logits / temperature)
    return fit_rejection(logits, None if fitted.held_out is None else torch.from_numpy(reference.labels))
