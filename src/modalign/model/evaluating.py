"""Evaluation of a classifier on labeled images."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, UndecodableError, argument
from modalign.core.features import UNLABELED
from modalign.data.copies import content_hash
from modalign.evaluate.metrics import accuracy, confusion, per_class_accuracy
from modalign.linalg.calibration import expected_calibration_error
from modalign.model.predictions import Evaluation, evaluation_notes
from modalign.model.tested_items import items_to_test_on

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier


@checked_arguments
def evaluated(model: Classifier, images: Any, split: Any, classes: Any, *, include_fitted: bool) -> Evaluation:
    """See :meth:`Classifier.evaluate <modalign.Classifier.evaluate>`."""
    items, labels = items_to_test_on(model.class_names, images, split, classes)
    known = np.flatnonzero(labels != UNLABELED)
    hashes = {items.ids[i]: content_hash(items, i) for i in known.tolist()}
    fitted_before = np.array(
        [not include_fitted and hashes[items.ids[i]] in model.fitted_on for i in known], dtype=bool
    )
    if not len(known):
        raise InputError(
            f"Expected labeled images to test on, got {len(items)} without a label; "
            "put the images of each class in a folder of its own, or give a CSV with a column of labels."
        )
    if not (~fitted_before).any():
        raise InputError(
            "Expected labeled images that the model was not fitted on or validated with, got none; "
            f"give other images, or {argument('include_fitted', 'True')} to test on the training images all the "
            "same."
        )
    found = model._answer(items.select(known[~fitted_before]))
    scored, probabilities = found.scored, found.probabilities
    row_of = {name: i for i, name in enumerate(items.ids)}
    true = labels[[row_of[name] for name in scored.ids]]
    predicted = probabilities.argmax(axis=1)
    return Evaluation(
        accuracy=accuracy(true, predicted),
        per_class=per_class_accuracy(true, predicted, model.class_names),
        confusion=confusion(true, predicted, len(model.class_names)),
        calibration_error=expected_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(true)),
        ids=scored.ids,
        labels=true,
        probabilities=probabilities,
        class_names=model.class_names,
        left_out=tuple(items.ids[i] for i in known[fitted_before]),
        quarantined=scored.quarantined,
        notes=(*items.notes, *evaluation_notes(len(items) - len(known), found.transductive)),
        **_provenance(model, {name: hashes[name] for name in scored.ids}),
    )


def has_images_to_test_on(model: Classifier, images: Any, split: Any, classes: Any) -> bool:
    """See :meth:`Classifier.can_evaluate <modalign.Classifier.can_evaluate>`."""
    try:
        items, labels = items_to_test_on(model.class_names, images, split, classes)
    except InputError:
        return False
    for i in np.flatnonzero(labels != UNLABELED).tolist():
        if content_hash(items, i) not in model.fitted_on:
            with suppress(UndecodableError):
                items.open(i)
                return True
    return False


def _provenance(model: Classifier, hashes: dict[str, str]) -> dict[str, Any]:
    """Return which of these images the model was fitted on and validated with, as far as its record has it."""
    known = [name for name, content in hashes.items() if content in model.fitted_on]
    validated = dict.fromkeys(name for name in known if hashes[name] in (model.validated_on or ()))
    fitted = tuple(name for name in known if name not in validated)
    return {"fitted": fitted, "validated": None if model.validated_on is None else tuple(validated)}
