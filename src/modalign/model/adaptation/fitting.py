"""Fit of a method to images, with predictions of held-out images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.child_processes import launched
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, ClassText, Features, Quarantined, concatenate
from modalign.core.scored import Scored
from modalign.data.items import Items
from modalign.data.names import quoted
from modalign.encoders.base import VIEWS, Encoder
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.outcome import MOST_PAIRS, about_copies
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.calibrating import without_calibration
from modalign.methods.contract.cross_fitting import cross_fit, own_predictions
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.transduction import name_answers
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.adaptation.encoder_pair import EncoderPair
from modalign.model.adaptation.holdout import Holdout
from modalign.model.scoring import image_hashes, score


@dataclass(frozen=True)
class FitTask:
    """Inputs of a fit.

    Attributes
    ----------
    items : Items
        All images of the source.
    holdout : Holdout or None
        The part of each labeled image; None where no image has a label, and all of them are learned from.
    prompts : list of list of str
        Sentences of each class.
    mirror : bool, default=False
        Whether mirrored images are learned from too.
    crops : int, default=0
        Squares of every image to embed.
    random_state : int, default=0
        Seed of the folds.
    """

    items: Items
    holdout: Holdout | None
    prompts: list[list[str]]
    mirror: bool = False
    crops: int = 0
    random_state: int = 0

    @property
    def learn(self) -> Items:
        """The images to learn from."""
        return self.items if self.holdout is None else self.items.select(self.holdout.learn)

    @property
    def validation(self) -> Items | None:
        """The images to hold out, if any."""
        if self.holdout is None or not len(self.holdout.validation):
            return None
        return self.items.select(self.holdout.validation)


@dataclass(frozen=True)
class Fitted:
    """Results of a fit in addition to the fitted method.

    Attributes
    ----------
    encoder : Encoder or JoinedEncoder
        The encoder to predict with.
    train : int
        Number of images that were learned from.
    held_out : Scored or None
        Predictions of labeled images by a model that had not learned from them; None if there are none.
    in_sample : Scored or None
        Without labels, predictions of the images that were learned from.
    zero_shot : ndarray or None
        Zero-shot logits of the images of ``held_out``, else of ``in_sample``; None without class text.
    how : str, default=""
        How images were held out, in words.
    chosen : dict
        Hyper-parameters chosen by cross-fitting.
    quarantined : tuple of Quarantined
        Images that could not be used.
    notes : tuple of str, default=()
        Messages for the user.
    """

    encoder: Encoder | JoinedEncoder
    train: int
    held_out: Scored | None
    in_sample: Scored | None
    zero_shot: np.ndarray | None
    quarantined: tuple[Quarantined, ...]
    how: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fit_vectors(method: VectorMethod, pair: EncoderPair, task: FitTask) -> Fitted:
    """Embed the images, choose hyper-parameters, fit, and predict held-out images; ``method`` is fitted in place."""
    if launched()[1] > 1:
        raise InputError(
            f"Expected a method inside the encoder in several processes, such as 'coop', got {type(method).__name__}, "
            "which one process fits; start it without torchrun."
        )
    if pair.language is None:
        require_every_class(task.learn.labels, task.items.class_names)
    text = pair.language.embed_texts(task.prompts, class_names=task.items.class_names) if pair.language else None
    views = [pair.embed(task.learn, view, task.crops) for view in (VIEWS if task.mirror else VIEWS[:1])]
    X, count = concatenate([x for x, _ in views]), len(views[0][0])
    aligned_views = [a for _, a in views if a is not None]  # of all views or of none
    clip_features = concatenate(aligned_views) if aligned_views else None
    if text is None:
        require_every_class(X.labels, task.items.class_names)
    n_crops = task.crops if method.scores_parts else 0
    held, held_aligned = (None, None) if task.validation is None else pair.embed(task.validation, VIEWS[0], n_crops)

    crossing = task.holdout is not None and task.holdout.cross
    predict = partial(
        cross_fit, method, X, text=text, clip_features=clip_features, views=len(views), random_state=task.random_state
    )
    crossed = predict() if crossing and not method.judges_itself else None
    if crossed is not None:
        method.set_params(**crossed.chosen)
    with without_calibration():  # the classifier gets a temperature of its own
        method.fit(X, text=text, clip_features=clip_features, validation=None if crossing else held)
    if crossed is not None:
        for name, curve in crossed.curves.items():  # the last fit chose nothing
            setattr(method, name, curve)
    if hasattr(method, "fitted_answers_"):
        name_answers(method.fitted_answers_, X.vectors, image_hashes(task.items, X.ids))
    if crossing and method.judges_itself:
        crossed = own_predictions(method, X, len(views))
        crossed = crossed if len(crossed.rows) else predict()  # with too few labels it does not judge itself

    rows = np.arange(count) if crossed is None else crossed.rows
    aligned = (X if clip_features is None else clip_features).select(rows)
    parts = [] if crossed is None or not len(rows) else [(crossed.scored, aligned)]
    if held is not None:
        parts.append((score(pair.encoder, method, held), held_aligned or held))
    in_sample = None
    if task.holdout is None:
        in_sample = score(pair.encoder, method, X.select(rows))
        parts = [(in_sample, aligned)]
    zero_shot = None
    if text is not None and parts:
        zero_shot = np.concatenate([_zero_shot(text, images) for _, images in parts])
    return Fitted(
        encoder=pair.encoder,
        train=count,
        held_out=_joined([scored for scored, _ in parts]) if in_sample is None and parts else None,
        in_sample=in_sample,
        zero_shot=zero_shot,
        quarantined=tuple(dict.fromkeys([*X.quarantined, *(held.quarantined if held else ())])),
        how=_how(crossed.folds if crossed is not None and len(rows) else 0, held is not None),
        chosen={} if crossed is None else crossed.chosen,
        notes=tuple(about_copies(views[0][0], held, task.items.class_names)) if in_sample is None else (),
    )


def fit_tower(method: TowerMethod, encoder: ClipEncoder, task: FitTask, checkpoint: str | Path | None) -> Fitted:
    """Train inside the encoder and predict held-out images; ``method`` is fitted in place."""
    text = encoder.embed_texts(task.prompts, class_names=task.items.class_names)
    method.fit(task.learn, text=text, encoder=encoder, checkpoint=checkpoint)
    images = task.learn if task.holdout is None else task.validation
    scored = zero_shot = None
    notes: list[str] = []
    if images is not None:
        scored = score(encoder, method, images)
        X = encoder.embed_images(images)
        place = {name: i for i, name in enumerate(X.ids)}
        zero_shot = _zero_shot(text, X.select([place[name] for name in scored.ids]))
        if task.holdout is not None and len(task.learn) * len(X) <= MOST_PAIRS:
            notes = about_copies(encoder.embed_images(task.learn), X, task.items.class_names)
    labeled = task.holdout is not None
    return Fitted(
        encoder=encoder,
        train=len(task.learn) - method.diagnosis_["left_out"],
        held_out=scored if labeled else None,
        in_sample=None if labeled else scored,
        zero_shot=zero_shot,
        quarantined=() if scored is None else scored.quarantined,
        how=_how(0, scored is not None),
        notes=tuple(notes),
    )


def require_every_class(labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Raise if a class has neither images to learn from nor text."""
    if (labels == UNLABELED).all():
        raise InputError(
            "Expected labeled images or an encoder with a text tower, got neither; label some images of every class, or"
            " choose a vision-language encoder."
        )
    missing = [name for c, name in enumerate(class_names) if not (labels == c).any()]
    if missing:
        raise InputError(
            "Expected a labeled image of every class, since the encoder has no text tower, got none of "
            f"{quoted(missing, 3)}."
        )


def _zero_shot(text: ClassText, images: Features) -> np.ndarray:
    return np.asarray(ZeroShot().fit(images, text=text).scores(images))


def _joined(parts: list[Scored]) -> Scored:
    return Scored(
        tuple(name for part in parts for name in part.ids),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.logits for part in parts]),
        tuple(q for part in parts for q in part.quarantined),
    )


def _how(folds: int, validated: bool) -> str:
    ways = [f"cross-fitting over {folds} folds"] * bool(folds) + ["validation images"] * validated
    return " and ".join(ways)
