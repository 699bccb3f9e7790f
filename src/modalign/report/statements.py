"""Sentences of the pages, as functions of the values they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from modalign.evaluate.metrics import percent
from modalign.evaluate.paired import LEVEL
from modalign.report.text import count, without_folders

GAP_NUMBERS = {
    "kl_pca2": "KL divergence in the principal plane",
    "wasserstein2": "Wasserstein-2 distance",
    "centroid_distance": "distance of the means",
}
"""Descriptions of the values of :func:`~modalign.linalg.gaussians.modality_gap`."""


def headline(accuracy: float, n: int, fitted: int | None, validated: int | None) -> str:
    """Sentences about the accuracy on ``n`` images, and how many of them the model was fitted on.

    Parameters
    ----------
    accuracy : float
        Share of right answers.
    n : int
        Images tested on.
    fitted : int or None
        Those that the model was fitted on or, where ``validated`` is None, fitted on or validated with. None if the
        model has no list of its training images.
    validated : int or None
        Those that were used for validation only. None if this is not recorded.
    """
    head = share_right(accuracy, n)
    if fitted is None:
        return f"{head}. It keeps no list of the images that it was fitted on; some of these may be among them."
    if not fitted + (validated or 0):
        return f"{head}. None of them is, byte for byte, an image that it was fitted on or validated with."
    if validated is None:
        parts = [f"{_were(fitted)} fitted on or validated with"]
    else:
        uses = ((fitted, "fitted on"), (validated, "validated with"))
        parts = [f"{_were(k)} {use}" for k, use in uses if k]
    return f"{head}, of which {' and '.join(parts)}. The accuracy is therefore not that on new images."


def share_right(accuracy: float, n: int) -> str:
    """The beginning of a sentence: the share of ``n`` images that is classified correctly."""
    return f"The model classifies {percent(accuracy)} % of {count(n, 'image')} correctly"


def _were(n: int) -> str:
    return f"{n:,} {'was' if n == 1 else 'were'}"


def temperature_source(calibrated: bool | None, how: str, used: int | None) -> str:
    """Sentences about the images that the temperature was fitted on, and whether they are among those shown.

    Parameters
    ----------
    calibrated : bool or None
        Whether the temperature was fitted on held-out predictions; None if that is not recorded.
    how : str
        How predictions were held out, such as "validation images".
    used : int or None
        Images of the plot that were among these; None if that is not known.
    """
    if calibrated is None:
        return "Whether a temperature was fitted is not recorded."
    if not calibrated:
        return "No temperature was fitted, because no labeled images were held out."
    head = f"The temperature was fitted on held-out predictions ({how})"
    if used is None:
        return f"{head}; some of these images may be among those shown here."
    if used:
        return f"{head}; {used:,} of these images {'is' if used == 1 else 'are'} among those shown here."
    return f"{head}; none of these images is shown here."


def calibration(source: str, few: int) -> str:
    """Sentences about calibrated probabilities, the temperature, and how to read the figure."""
    return (
        "Probabilities are calibrated if 80 % of the answers given with a probability of 80 % are right; the dots then "
        f"lie on the dashed diagonal. {source}\n\nThe area of a dot is in proportion to its number of images, and the "
        f"line is its 95 % interval. Hollow dots have fewer than {few} images."
    )


def gap_change(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> str:
    """Sentence on whether images and class texts are closer after a map, by every available measure."""
    pairs: dict[str, tuple[float, float]] = {}
    for name, words in GAP_NUMBERS.items():
        a, b = before.get(name), after.get(name)
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b):
            pairs[words] = (a, b)
    if not pairs:
        return "The gap was not measured."
    listed = "; ".join(f"{words} {a:.3g} before and {b:.3g} after" for words, (a, b) in pairs.items())
    smaller, larger = (sum(sign * a < sign * b for a, b in pairs.values()) for sign in (-1, 1))
    if smaller and larger:
        verdict = "The measures disagree on whether the map brings images and class texts closer together"
    elif smaller == larger == 0:
        verdict = "The map does not change the distance of images and class texts"
    else:
        verdict = f"The map brings images and class texts {'closer together' if smaller else 'farther apart'}"
    return f"{verdict}: {listed}."


def significance(together: str) -> str:
    """Sentences about the significance test and its correction.

    Parameters
    ----------
    together : str
        Comparisons that are corrected together, such as "comparisons at the same number of labels".
    """
    return (
        f"A difference is significant if a sign-flip test (McNemar's test) on the same test images rejects "
        f"“no difference” at the {100 * LEVEL:.0f} % level, corrected for all {together} (Holm). Intervals are "
        "corrected likewise, so an interval contains 0 exactly where there is no significant difference."
    )


def chance(level: float, n_classes: int) -> str:
    """Sentence about chance level."""
    return f"Chance level is {percent(level)} %, the accuracy of guessing one of {n_classes:,} classes."


def paragraphs(notes: Sequence[str]) -> str:
    """Notes as sentences, a paragraph each, with absolute paths cut to their last part."""
    lines = (without_folders(" ".join(note.split())) for note in notes)
    return "\n\n".join(f"{line[0].upper()}{line[1:].rstrip('.')}." for line in lines if line)
