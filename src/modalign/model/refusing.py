"""Check whether a classifier can answer "none of these", with advice if it cannot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modalign.core.errors import argument
from modalign.linalg.rejection import Rejection, images_needed
from modalign.methods.contract.tower import TowerMethod

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier


def require_rejection(model: Classifier, level: float) -> Rejection:
    """Return the rejection; raise, with advice, unless enough images were held out for ``level``."""
    found = Rejection("probability", ()) if model.rejection is None else model.rejection
    needed = images_needed(level) if 0 < level < 1 else 0
    plan = model.record.get("validation", {})
    labeled, inside = plan.get("labeled", 0), isinstance(model.method, TowerMethod)
    if added := model.record.get("added"):
        advice = f"fit again with images of what was added ({', '.join(added)})"
    elif labeled < needed * (1 + inside):  # inside an encoder, at most half of the images are held out
        kind = "labeled images" if labeled else "images"
        advice = f"fit with at least {needed * (1 + inside)} {kind}{f' (there were {labeled})' if labeled else ''}"
    elif plan.get("how", "").startswith("cross-fitting") and model.record.get("shots") is None:
        advice = "fit with more images of the classes that have only one labeled image"
    else:
        each = str(math.ceil(needed / len(model.class_names))) if inside else "cross"
        advice = f"fit again with {argument('validation', each, of='fit')}"
        if model.record.get("shots") is not None:
            advice += f" and without {argument('shots', of='fit')}"
    found.require(level, advice)
    return found
