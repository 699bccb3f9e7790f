"""Outcome of a fit: accuracy on held-out images, compared with zero-shot on the same images, and notes.

All values are JSON-compatible and used in the record of a model, the command line and the pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from modalign.core.features import UNLABELED, Features
from modalign.core.scored import Scored
from modalign.data.names import quoted
from modalign.encoders.registry import EMBEDDED
from modalign.evaluate.class_sizes import size_lines
from modalign.evaluate.metrics import Accuracy, accuracy, chance_level, percent, proportion
from modalign.evaluate.paired import compare_pair, signed
from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import near_identical

MOST_PAIRS = 2**28
FEW = 5  # number of held-out images of a class from which zero correct ones cause a note
NOTHING = 1 / 3  # zero-shot counts as chance level below this share of the way from chance to 1
DIGITS = {*"0123456789", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def held_out_outcome(
    scored: Scored,
    zero_shot: np.ndarray | None,
    *,
    class_names: Sequence[str],
    title: str,
    how: str,
    learns: bool = True,
) -> dict[str, Any]:
    """The outcome on labeled images that were held out.

    Parameters
    ----------
    scored : Scored
        Ids, labels and logits of the images, at least one.
    zero_shot : ndarray or None
        Logits of zero-shot classification for the same images, shape (n, C); None without class text.
    class_names : sequence of str
        C names.
    title : str
        Name of the method.
    how : str
        How the images were held out, such as ``"validation images"``.
    learns : bool, default=True
        False if the method is zero-shot itself.

    Returns
    -------
    dict
        ``held_out`` and ``zero_shot``: ``accuracy``, ``low`` and ``high`` (95 % interval), ``n`` and ``how``;
        ``chance``: accuracy of guessing, 1 / C; ``difference``: ``points`` of accuracy to zero-shot with ``low``,
        ``high`` and ``significant``; ``agreement``: where there are no labels, the share of images with the answer of
        zero-shot, in the form of an accuracy; ``notes``: sentences. None for what does not apply.
    """
    labels, predicted = scored.labels, scored.logits.argmax(axis=1)
    own = accuracy(labels, predicted)
    found = no_outcome(class_names) | {"held_out": _plain(own, how)}
    notes = []
    if zero_shot is not None:
        answers = zero_shot.argmax(axis=1)
        reference = accuracy(labels, answers)
        found["zero_shot"] = _plain(reference, how)
        notes += _about_zero_shot(labels, answers, reference)
        if learns:
            pair = compare_pair(predicted == labels, answers == labels)
            found["difference"] = {
                "points": pair.difference, "low": pair.low, "high": pair.high, "significant": pair.significant,
            }  # fmt: skip
            notes += _about_learning(title, own, found["difference"])
    elif own.low <= found["chance"]:
        notes.append(f"{title} is not significantly better than chance ({percent(found['chance'])} %) on these images")
    missed = {
        class_names[c]: f"{int((labels == c).sum())} images"
        for c in np.unique(labels)
        if (labels == c).sum() >= FEW and not (predicted[labels == c] == c).any()
    }
    if missed:
        listed = quoted([*missed], details=[*missed.values()])
        notes.append(f"no held-out image of a class is classified correctly: {listed}")
    return found | {"notes": notes}


def unlabeled_outcome(
    scored: Scored,
    zero_shot: np.ndarray | None,
    *,
    class_names: Sequence[str],
    learns: bool = True,
    answers: np.ndarray | None = None,
) -> dict[str, Any]:
    """Outcome of a fit without labels, which cannot include an accuracy.

    Parameters
    ----------
    scored : Scored
        Ids and logits of the images that were fitted on.
    zero_shot, class_names, learns : ndarray or None
        As for :func:`held_out_outcome`.
    answers : ndarray or None, default=None
        Class index of every image as it was found in fitting; by default that of its highest logit.

    Returns
    -------
    dict
        The keys of :func:`held_out_outcome`, with None for what needs labels.
    """
    found = no_outcome(class_names)
    if zero_shot is not None and learns:
        answers = scored.logits.argmax(axis=1) if answers is None else answers
        same = answers == zero_shot.argmax(axis=1)
        found["agreement"] = _plain(proportion(int(same.sum()), len(same)), "fitted images")
    return found


def no_outcome(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the outcome if nothing was held out."""
    chance = chance_level(len(class_names))
    return {"held_out": None, "zero_shot": None, "chance": chance, "difference": None, "agreement": None, "notes": []}


def about_encoder(name: str, class_names: Sequence[str], *, guesses: bool) -> list[str]:
    """Return a note if the encoder is a small one of the package, unless the classes are digits.

    Parameters
    ----------
    name : str
        Of the encoder, or of several with a plus between them.
    class_names : sequence of str
        C names.
    guesses : bool
        Whether zero-shot accuracy may be that of guessing.
    """
    toys = [part for part in name.split("+") if part in EMBEDDED]
    if not toys or (not guesses and {class_name.casefold() for class_name in class_names} <= DIGITS):
        return []
    return [
        f"the encoder '{toys[0]}' is made for drawings of digits, letters and shapes, in tests and tutorials; "
        "for photos use a real one, such as openai/clip-vit-base-patch32"
    ]


def about_copies(learned: Features, held_out: Features | None, class_names: Sequence[str]) -> list[str]:
    """Return notes on near-identical images with two labels, and on those in both training and held-out images.

    No search is done with more than :data:`MOST_PAIRS` pairs of images.
    """
    parts = [part for part in (learned, held_out) if part is not None]
    if len(learned) * sum(map(len, parts)) > MOST_PAIRS:
        return []
    vectors = torch.cat([as_single(part.vectors) for part in parts])
    ids, labels = [name for part in parts for name in part.ids], np.concatenate([part.labels for part in parts])
    pairs = near_identical(vectors).numpy()
    first, second = labels[pairs].T
    differ = pairs[(first != second) & (first != UNLABELED) & (second != UNLABELED)]
    two_labels = [" and ".join(f"'{ids[k]}' ({class_names[labels[k]]})" for k in pair) for pair in differ[:3].tolist()]
    crossing = pairs[(pairs[:, 0] < len(learned)) & (pairs[:, 1] >= len(learned))]
    shared = [ids[j] for j in np.unique(crossing[:, 1]).tolist()]
    notes = []
    if two_labels:
        more = f" and {len(differ) - 3} more pairs" if len(differ) > 3 else ""
        notes.append(
            f"near-identical images carry two labels: {'; '.join(two_labels)}{more}; one of the labels may be wrong"
        )
    if shared:
        subject = "1 validation image is" if len(shared) == 1 else f"{len(shared)} validation images are"
        notes.append(
            f"{subject} near-identical to training images, such as {quoted(shared, 2)}: "
            "the measured accuracy may be too high"
        )
    return notes


def about_guessing(zero_shot: Accuracy, guessed: float, how: str = "guessing") -> list[str]:
    """Return a note if the interval of the zero-shot accuracy contains that of guessing."""
    if zero_shot.low > guessed:
        return []
    measured = f"zero-shot accuracy is {zero_shot}, not significantly better than {how} ({percent(guessed)} %)"
    if zero_shot.high < guessed + NOTHING * (1 - guessed):
        return [f"{measured}: this encoder does not recognize these classes by their text"]
    return [f"{measured}: too few images to decide whether this encoder recognizes these classes by their text"]


def outcome_lines(outcome: dict[str, Any]) -> list[str]:
    """Return sentences with the numbers of an outcome, without its notes."""
    chance, lines = f"chance {percent(outcome['chance'])} %", []
    if outcome["held_out"] is not None:
        found = f"accuracy {_said(outcome['held_out'])} {_where(outcome['held_out']['how'])}"
        if outcome["zero_shot"] is not None:
            found += f"; zero-shot on the same images {_said(outcome['zero_shot'])}"
        lines.append(f"{found}; {chance}")
    else:
        lines.append("accuracy is unknown, since no labeled image was held out")
        if outcome["agreement"] is not None:
            lines[0] += f"; agreement with zero-shot {_said(outcome['agreement'])}"
    return [*lines, *size_lines(outcome)]


def _where(how: str) -> str:
    """``how`` images were held out, as the end of a sentence."""
    return " and ".join(f"{'by' if way.startswith('cross') else 'on'} {way}" for way in how.split(" and "))


def _said(found: dict[str, Any]) -> str:
    return str(Accuracy(found["accuracy"], found["low"], found["high"], found["n"]))


def _about_zero_shot(labels: np.ndarray, answers: np.ndarray, found: Accuracy) -> list[str]:
    """Return a note if zero-shot is as accurate as its shuffled predictions."""
    shares = [np.bincount(values) / len(values) for values in (labels, answers)]
    guessed = sum(a * b for a, b in zip(*shares, strict=False))
    return about_guessing(found, guessed, "the same answers in random order")


def _about_learning(title: str, own: Accuracy, difference: dict[str, Any]) -> list[str]:
    """Return a note unless the method is significantly better than zero-shot."""
    low, high = signed(difference["low"]), signed(difference["high"])
    points = f"{signed(difference['points'])} points, {low} to {high}"
    if not difference["significant"]:
        return [f"{title} is not significantly better than zero-shot on these {own.n} images ({points})"]
    if difference["points"] < 0:
        return [f"{title} is worse than zero-shot on these {own.n} images ({points}); zero_shot is the better model"]
    return []


def _plain(found: Accuracy, how: str) -> dict[str, Any]:
    return {"accuracy": found.top1, "low": found.low, "high": found.high, "n": found.n, "how": how}
