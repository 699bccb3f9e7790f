"""The classifier of a session as a saved model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modalign.app.studio.session import Session
from modalign.app.studio.sets.set_session import SetSession
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.itemset import Items
from modalign.data.label_sets import LabeledSets
from modalign.model.adaptation import adapt
from modalign.model.multi_label import adapt_multi_label

MODEL, FINAL = "model", "model-with-exam"
SECONDS = 20.0  # for choosing the method of the saved model


def save_session_model(session: Session, *, with_exam: bool = False) -> Path:
    """Fit a classifier to the labels, without those of the exam, and save it in ``model`` in the folder of the session.

    Its record has the accuracy of the answers that the page shows on the exam. ``with_exam`` fits to the exam labels
    too and saves in ``model-with-exam``; the accuracy in its record is then that of a model without them.
    """
    if isinstance(session, SetSession):
        return _save_sets(session, with_exam)
    with session.lock:
        labeling, names = session.labeling, session.labeling.state.names
        taught = labeling.labels >= 0 if with_exam else labeling.taught
        rows, exam = np.flatnonzero(taught), session.exam()
        numbers, title = labeling.labels[rows], session.answers.method
    if not len(rows):
        raise InputError("Expected labeled images to fit a model to, got none; label some first.")
    ids = list(names)
    items = session.gallery.items.select(rows)
    columns = [ids.index(number) for number in numbers.tolist()]
    template = session.settings.templates
    items = Items(items.ids, items.blobs, np.array(columns), tuple(names.values()))  # no part of the source counts
    model = adapt(
        items, encoder=session.encoder, templates=template, random_state=session.settings.seed, seconds=SECONDS
    )
    accuracy = exam.accuracy
    model.record["exam"] = {
        "answers_of": title,
        "learned_from": with_exam,
        "images": exam.answered,
        "none_of_these": exam.none,
        "accuracy": None if accuracy is None else accuracy.top1,
        "low": None if accuracy is None else accuracy.low,
        "high": None if accuracy is None else accuracy.high,
    }
    return model.save(session.labeling.log.folder / (FINAL if with_exam else MODEL))


def _save_sets(session: SetSession, with_exam: bool) -> Path:
    """The same for images of several classes, by the method of the answers that the page shows."""
    with session.lock:
        labeling, names = session.labeling, session.labeling.state.names
        rows = np.flatnonzero((labeling.labels != UNLABELED) if with_exam else labeling.taught)
        matrix, scores, answers = labeling.matrix(tuple(names))[rows], session.graded()["exam"], session.answers
    if not len(rows):
        raise InputError("Expected labeled images to fit a model to, got none; label some first.")
    items = session.gallery.items.select(rows)
    source = LabeledSets(Items(items.ids, items.blobs), matrix, tuple(names.values()))
    model = adapt_multi_label(
        source,
        encoder=session.encoder,
        method=answers.learned_by,
        templates=session.settings.templates,
        random_state=session.settings.seed,
    )
    measured = {"answers_of": answers.method, "learned_from": with_exam, "images": scores["answered"]}
    model.record["exam"] = measured | {"sets": scores["sets"]}
    return model.save(labeling.log.folder / (FINAL if with_exam else MODEL))
