"""The same protocol for methods that learn inside an encoder: they are handed pictures in place of vectors."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modalign.data.items import Items
from modalign.data.split import Split
from modalign.evaluate.memory import PeakMemory
from modalign.evaluate.metrics import proportion
from modalign.evaluate.protocol import SealedLabels, fingerprint_of_test
from modalign.evaluate.runs import Run
from modalign.features import UNLABELLED, ClassText
from modalign.record import plain, versions

if TYPE_CHECKING:
    from modalign.encoders.clip import ClipEncoder
    from modalign.methods.tower import TowerMethod


def run_in_tower(
    name: str,
    method: TowerMethod,
    items: Items,
    text: ClassText,
    encoder: ClipEncoder,
    split: Split,
    seed: int,
    *,
    shots: int,
) -> Run:
    """Fit ``method`` on the training images of ``split``, test it once, and write down all of it.

    As :func:`~modalign.evaluate.protocol.run_once`: test images come without labels and names, and with ``shots=0``
    so do the images to learn from, which are then the whole pool, or the test images where there is none. An image
    that cannot be decoded is answered wrongly.

    Parameters
    ----------
    name : of the method in the comparison.
    method : unfitted.
    items : all images, labelled 0…C−1.
    text : class text from ``encoder``.
    encoder : what is learned in.
    split : which images are for what.
    seed : of the draw and of the method.
    shots : labelled images a class.
    """
    sealed = SealedLabels(items.labels[split.test])
    pool = np.union1d(split.train, split.unlabelled)
    train = items.select(split.train) if shots else nameless(items.select(pool if len(pool) else split.test))
    images = nameless(items.select(split.test))
    with PeakMemory() as memory:
        started = time.perf_counter()
        method.fit(train, text=text, encoder=encoder)
        fitted = time.perf_counter()
        scored = method.score_images(images, encoder)
        done = time.perf_counter()
    answers = dict(zip(scored.ids, scored.logits.argmax(axis=1).tolist(), strict=True))
    correct = sealed.mark([answers.get(i, UNLABELLED) for i in images.ids])
    contents = hashlib.sha256(f"{encoder.spec.fingerprint} {text.sentences} {items.ids}".encode())
    return Run(
        method=name,
        shots=shots,
        seed=seed,
        accuracy=proportion(int(correct.sum()), len(correct)),
        fit_seconds=round(fitted - started, 4),
        predict_seconds=round(done - fitted, 4),
        n_train=len(train),
        n_validation=0,
        protocol=split.description + ("" if shots or len(pool) else "; transductive"),
        parameters=plain(method.get_params(deep=False)),
        diagnosis=plain(method.diagnosis_),
        features=contents.hexdigest()[:16],
        test=fingerprint_of_test(split),
        asked=sealed.asked,
        versions=versions(),
        notes=split.notes,
        peak_bytes=memory.bytes,
        correct=correct,
    )


def nameless(items: Items) -> Items:
    """The images without labels and without file names, which often say the class."""
    ids = tuple(f"{i:06d}" for i in range(len(items)))
    return replace(items, ids=ids, labels=np.full(len(items), UNLABELLED))
