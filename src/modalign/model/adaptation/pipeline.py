"""Adaptation of a classifier to images in one call."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
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
    from modalign.data.itemset import Items
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
    descriptions: str | Path | Mapping[str, Any] | None = None,
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
        A name for :func:`~modalign.load_encoder`, or its result; ``"a+b"`` joins two encoders.
    clip_encoder : str, Encoder or None, default=None
        A vision-language encoder for training only, if ``encoder`` is vision-only and the method maps its space to the
        text space (GPUA); the classifier then uses ``encoder`` alone.
    method : str, VectorMethod or TowerMethod, default="auto"
        A name (see ``modalign list``) or an unfitted method. ``"auto"`` tries several on held-out images and keeps the
        best combination, within ``seconds`` (20 by default) beyond embedding. With 300 seconds or more, embedding
        included, it also tries CoOp, CLIP-LoRA and MaPLe inside the encoder, as far as they can end in time, and takes
        one that is significantly better on held-out images.
    shots : int or None, default=None
        Training images per class; None uses all. Where predictions are cross-fitted, min(shots, 4) images per class
        more are used, which would otherwise validate, and teach as well.
    validation : {"auto", "cross", "none"}, int or float, default="auto"
        How images are held out. The temperature, the rejection threshold, the reported accuracy and the choices of a
        method are based on predictions of held-out images. A number holds out that many images per class or that share
        of them for validation, from the validation list of the source if it has one. ``"cross"``
        cross-fits: each of five folds is predicted by a model fitted to the others, and the final model learns from all
        labeled images. ``"none"`` holds nothing out. ``"auto"`` takes the validation list of the source, else
        cross-fits methods on vectors with up to 2,000 labeled images, and otherwise holds out a fifth of each class, at
        least 19 images in all.
    classes : sequence of str, str, Path or None, default=None
        Class names, or a file of them, to replace the folder names.
    unlabeled : bool, default=False
        Ignore the labels of the folders or lists; ``classes`` then gives the possible classes.
    split : str, Path, Split or None, default=None
        A split file, or a split of the given items. Default: the split that the source marks; its test images are never
        used, its validation images are used for validation. See :func:`~modalign.load_items`.
    templates : str, sequence of str or None, default=None
        Sentences with ``{}`` for the class name.
    descriptions : str, Path, mapping or None, default=None
        Class name → sentences, as a mapping or a JSON file (CuPL or HPT layout); with templates too, those come first.
    mirror : bool or None, default=None
        Also train on mirrored images; None is as in the publication of the method.
    crops : int, default=0
        Number of square crops per image for methods that use crops, half to nine tenths of the short side each. For
        methods on vectors (WCA, FAIR on vectors), 0 is whole images only; otherwise embedding costs ``crops`` + 1
        forward passes per image, once. FAIR, which cuts crops itself, has its own default.
    random_state : int, default=0
        Seed of the split and of the method.
    device : str, default="auto"
        Device of an encoder that is given by name.
    checkpoint : str, Path or None, default=None
        A folder for the training state of a method inside the encoder. Training resumes from it after an interruption.
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
            raise InputError(f"{type(method).__name__} learns on vectors without checkpoints; leave it out.")
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
    hints = (
        [*sentence_notes(items.class_names, templates, descriptions), *_about_labels(method, items)] if spoken else []
    )
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
            "notes": [*items.notes, *hints, *(() if holdout is None else holdout.notes), *fitted.notes],
            "quarantined": [asdict(q) for q in dict.fromkeys([*items.quarantined, *fitted.quarantined])],
            "seconds": round(time.perf_counter() - started, 3),
        },
        crops=crops,
    )


def _about_labels(method: VectorMethod | TowerMethod, items: Items) -> list[str]:
    """A note if the images have labels of which the method, which has class text, learns nothing."""
    takes = getattr(method, "takes_labels", method.needs_labels) or isinstance(method, ZeroShot)
    if takes or not (items.labels != UNLABELED).any():
        return []
    return [f"{method.title} learns without labels; those of the images only measure and calibrate it"]


def _arguments() -> list[str]:
    """The keyword arguments of :func:`adapt`, which a misspelled hyper-parameter may stand for."""
    return [name for name, p in inspect.signature(adapt).parameters.items() if p.kind is p.KEYWORD_ONLY]


def _beside_towers(
    auto: Auto, fitted: Fitted, task: FitTask, encoder: Callable[[], ClipEncoder], began: float
) -> tuple[VectorMethod | TowerMethod, Fitted, list[dict[str, Any]]]:
    """Return the ensemble or a method inside the encoder, its fit, and the table of all candidates.

    Methods inside the encoder are tried if there is enough time, a single CLIP encoder without crops, and held-out
    predictions of the ensemble.
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
    """Return the outcome of the fit, with all notes."""
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
    elif fitted.in_sample is not None:
        answers = method.transduction_[: fitted.train] if hasattr(method, "fitted_answers_") else None
        found = unlabeled_outcome(
            fitted.in_sample, fitted.zero_shot, class_names=class_names, learns=learns, answers=answers
        )
    else:
        found = no_outcome(class_names)
    if fitted.in_sample is not None or not getattr(method, "takes_labels", method.needs_labels):
        assigned = getattr(
            method, "transduction_", None if fitted.in_sample is None else fitted.in_sample.logits.argmax(axis=1)
        )
        if assigned is not None:
            estimated = estimated_sizes(method, len(class_names))
            found = with_class_sizes(found, np.asarray(assigned), class_names, estimated)
    guesses = found["zero_shot"] is not None and found["zero_shot"]["low"] <= found["chance"]
    hints = about_encoder(fitted.encoder.name, class_names, guesses=guesses)
    return found | {"notes": [*found["notes"], *hints]}


def _rejection(fitted: Fitted, temperature: float) -> Rejection | None:
    """Fit the rejection on held-out images or, without labels, on the fitted images, as if all classes were known."""
    reference = fitted.held_out or fitted.in_sample
    if reference is None:
        return None
    logits = torch.from_numpy(reference.logits / temperature)
    return fit_rejection(logits, None if fitted.held_out is None else torch.from_numpy(reference.labels))
