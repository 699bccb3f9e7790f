"""Copies of one picture: across parts, across classes, and within them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from modalign.audit.audit_findings import AuditFinding
from modalign.core.features import UNLABELED, Features
from modalign.data.copies import content_hash
from modalign.data.items import Items
from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import NEAR_IDENTICAL, groups_of_copies, unit

_COMPARED = 200  # members of a group whose cosines are computed pair by pair


def find_copies(features: Features, items: Items | None, *, threshold: float = NEAR_IDENTICAL) -> list[AuditFinding]:
    """Groups of images with the same bytes or nearly the same vector, as findings.

    A group whose images are of two parts is a leak, one whose images carry two labels a contradiction, and it may be
    both; any other group is a duplicate. Groups with the lowest cosine come last.

    Parameters
    ----------
    features : Features
        n images; equal bytes have equal vectors.
    items : Items or None
        The same images, to distinguish equal bytes from similar pictures; None if there are only vectors.
    threshold : float, default=NEAR_IDENTICAL
        Cosine from which two vectors are those of one picture.

    Returns
    -------
    list of AuditFinding
        Cost O(n² d), in blocks, and a reading of the images in groups.
    """
    vectors = as_single(features.vectors)
    groups = groups_of_copies(vectors, threshold=threshold).numpy()
    found = []
    for members in _members(groups):
        rows = unit(vectors[members[:_COMPARED]])
        cosine = min(1.0, float((rows @ rows.T).min()))
        same = items is not None and _same_bytes(items, features, members)
        how = "the same bytes" if same else "the same vector" if cosine > 1 - 1e-6 else f"cosine {cosine:.4f}"
        ids = tuple(features.ids[i] for i in members)
        parts = sorted({features.parts[i] for i in members} - {""}) if features.parts else []
        labels = [k for k in dict.fromkeys(features.labels[members].tolist()) if k != UNLABELED]
        if len(parts) > 1:
            found.append(AuditFinding("leak", ids, f"{how}, in {' and '.join(parts)}", cosine))
        if len(labels) > 1:
            names = " and ".join(f"'{_class_name(features, k)}'" for k in labels)
            found.append(AuditFinding("contradiction", ids, f"{how}, labeled {names}", cosine))
        if len(parts) < 2 and len(labels) < 2:
            found.append(AuditFinding("duplicate", ids, how, cosine))
    return sorted(found, key=lambda finding: -(finding.score or 0.0))


def _class_name(features: Features, label: int) -> str:
    return features.class_names[label] if features.class_names else str(label)


def _members(groups: np.ndarray) -> Iterator[list[int]]:
    """The rows of every group of two or more, in the order of the first of them."""
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[order])) + 1
    several = [part.tolist() for part in np.split(order, bounds) if len(part) > 1]
    return iter(sorted(several))


def _same_bytes(items: Items, features: Features, members: Sequence[int]) -> bool:
    place = {name: i for i, name in enumerate(items.ids)}
    return len({content_hash(items, place[features.ids[i]]) for i in members}) == 1
