"""The same protocol for methods inside an encoder, which get pictures in place of vectors."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modalign.core.features import UNLABELED, ClassText
from modalign.data.items import Items
from modalign.data.splits.split import Split
from modalign.evaluate.measuring import measured
from modalign.evaluate.runs import Run, Shots
from modalign.evaluate.sealed import SealedLabels

if TYPE_CHECKING:
    from modalign.encoders.clip import ClipEncoder
    from modalign.methods.contract.tower import TowerMethod


def run_in_tower(
    name: str,
    method: TowerMethod,
    items: Items,
    text: ClassText,
    encoder: ClipEncoder,
    split: Split,
    seed: int,
    *,
    shots: Shots,
    fingerprint: str | None = None,
) -> Run:
    """Fit ``method`` on the training images of ``split``, test it once, and return the run.

    As :func:`~modalign.evaluate.protocol.run_once`: test images come without labels and names, and with ``shots=0``
    so do the training images, which are then the whole pool, or the test images if there is no pool. An image that
    cannot be decoded counts as wrong.

    Parameters
    ----------
    name : str
        Of the method in the comparison.
    method : TowerMethod
        Unfitted.
    items : Items
        All images, labeled 0…C−1.
    text : ClassText
        Class text from ``encoder``.
    encoder : ClipEncoder
        Encoder that is trained in.
    split : Split
        Which images are for what.
    seed : int
        Of the draw and of the method.
    shots : int or str
        Labeled images per class.
    fingerprint : str or None, default=None
        Of the images and the text; computed by default.
    """
    sealed = SealedLabels(items.labels[split.test])
    pool = np.union1d(split.train, split.unlabeled)
    train = items.select(split.train) if shots else nameless(items.select(pool if len(pool) else split.test))
    images = nameless(items.select(split.test))
    contents = hashlib.sha256(f"{encoder.spec.fingerprint} {text.sentences} {items.ids}".encode())
    return measured(
        name,
        method,
        lambda: method.fit(train, text=text, encoder=encoder),
        lambda: method.score_images(images, encoder).answers(images.ids),
        split,
        sealed,
        seed=seed,
        shots=shots,
        n_train=len(train) if shots else 0,
        n_unlabeled=0 if shots else len(train),
        n_validation=0,
        protocol=split.description + ("" if shots or len(pool) else "; transductive"),
        features=fingerprint or contents.hexdigest()[:16],
    )


def nameless(items: Items) -> Items:
    """Return the images without labels and without file names, which often contain the class."""
    ids = tuple(f"{i:06d}" for i in range(len(items)))
    return replace(items, ids=ids, labels=np.full(len(items), UNLABELED), given=())
