"""Audit of a set of images: all checks, on cached vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.audit.audit_findings import KINDS, Audit, AuditFinding
from modalign.audit.label_errors import find_label_errors
from modalign.audit.near_copies import find_copies
from modalign.audit.outliers import outlying
from modalign.audit.picture_quality import qualities
from modalign.audit.searching import require_finite_vectors
from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.randomness import require_seed
from modalign.data.items import Items, load_items
from modalign.data.text.lint import lint
from modalign.data.text.templates import DEFAULT_TEMPLATE
from modalign.encoders.loading import load_encoder
from modalign.linalg.similarity import NEAR_IDENTICAL
from modalign.methods import is_vector_method, method_class

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

CHECKS = ("copies", "labels", "outliers", "pictures", "names")
TRUSTED = 0.8  # agreement of predictions and labels below which a note reports poor predictions
TYPICAL = 0.5  # a problem of a larger share of the pictures than this becomes one note about the source


def audit_images(
    source: Any,
    *,
    encoder: str | Encoder = "tiny",
    checks: Collection[str] = CHECKS,
    split: Any = None,
    classes: Any = None,
    method: str = "gda",
    near_identical: float = NEAR_IDENTICAL,
    random_state: int | None = 0,
) -> Audit:
    """Find probable label errors, copies, leaks between parts, outliers, bad pictures and unclear class names.

    Parameters
    ----------
    source : object
        Any source of :func:`~modalign.load_items`, or :class:`~modalign.Features`, without the checks of pixels.
    encoder : str or Encoder, default="tiny"
        Encoder of the images; not needed for :class:`~modalign.Features`.
    checks : collection of str, default=CHECKS
        Which of ``"copies"``, ``"labels"``, ``"outliers"``, ``"pictures"`` and ``"names"`` to run.
    split, classes : object, default=None
        As for :func:`~modalign.load_items`.
    method : str, default="gda"
        Method on vectors whose out-of-fold predictions are compared with the labels; it gets no text.
    near_identical : float, default=NEAR_IDENTICAL
        Cosine in (0, 1] from which two images are copies of one picture.
    random_state : int or None, default=0
        Seed of the folds.

    Returns
    -------
    Audit
        Checks that the images do not allow are in ``skipped``.

    Raises
    ------
    InputError
        An unknown check, a cosine out of range, or a source that cannot be read.

    Notes
    -----
    Costs the embedding of images that the cache does not hold, O(n² d) for copies, O(n d²) for labels by the default
    method, and one decoding per image for pictures.

    Examples
    --------
    >>> from modalign.audit.auditing import audit_images
    >>> from modalign.data.digits import load_digits
    >>> audit_images(load_digits().select(range(200)), checks=["labels", "copies"]).counts
    {'label': 1}
    """
    for check in checks:
        if check not in CHECKS:
            raise UnknownNameError("check", str(check), CHECKS)
    if not 0 < near_identical <= 1:
        raise InputError(f"Expected {argument('near_identical')} as a cosine in (0, 1], got {near_identical!r}.")
    require_seed(random_state)
    learned = method_class(method)
    if not is_vector_method(method):
        raise InputError(f"Expected {argument('method')} as a method on vectors, got '{method}', which is none.")
    learner = learned(random_state=random_state)
    if isinstance(source, Features):
        require_finite_vectors(source)
        subject = _Subject(source, None, None, ())
    else:
        items = load_items(source, split=split, classes=classes)
        loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
        features = loaded.embed_images(items)
        subject = _Subject(features, items, _class_text(loaded, items), items.notes)
    features = subject.features
    notes = [*subject.notes]
    steps: dict[str, Callable[[], list[AuditFinding]]] = {
        "copies": lambda: find_copies(features, subject.items, threshold=near_identical),
        "labels": lambda: _label_errors(features, learner, random_state, notes),
        "outliers": lambda: _outliers(features),
        "pictures": subject.pictures,
        "names": subject.names,
    }
    found = [AuditFinding("unreadable", (entry.id,), entry.reason) for entry in features.quarantined]
    skipped: dict[str, str] = {}
    for check in CHECKS:
        if check in checks:
            try:
                found += steps[check]()
            except InputError as error:
                skipped[check] = str(error)
    return subject.audit(found, skipped, notes)


@dataclass(frozen=True)
class _Subject:
    """Inputs of an audit: vectors, and pictures and class texts if there are any."""

    features: Features
    items: Items | None
    text: ClassText | None
    notes: tuple[str, ...]

    def pictures(self) -> list[AuditFinding]:
        if self.items is None:
            raise InputError("Expected images to examine their pixels, got vectors.")
        place = {name: i for i, name in enumerate(self.items.ids)}
        measured = qualities(self.items, [place[name] for name in self.features.ids])
        found = [
            AuditFinding(kind, (self.items.ids[i],), detail, score)
            for i, quality in measured.items()
            for kind, score, detail in quality.troubles()
        ]
        return sorted(found, key=lambda finding: finding.score or 0.0)

    def names(self) -> list[AuditFinding]:
        vectors = None if self.text is None else self.text.vectors
        return [AuditFinding("name", (), str(warning)) for warning in lint(self.features.class_names, vectors)]

    def audit(self, found: list[AuditFinding], skipped: dict[str, str], notes: list[str]) -> Audit:
        """Return the findings in order. An outlier with a doubtful label counts once; a frequent problem is a note."""
        n, counts = len(self.features), Counter(finding.kind for finding in found)
        usual = {kind for kind in ("tiny", "dark", "bright", "blurred") if counts[kind] > TYPICAL * n}
        typical = [f"{counts[kind]:,} of {n:,} pictures are {kind}; they are not listed" for kind in sorted(usual)]
        doubted = {finding.ids for finding in found if finding.kind == "label"}
        kept = [f for f in found if f.kind not in usual and not (f.kind == "outlier" and f.ids in doubted)]
        order = {kind: i for i, kind in enumerate(KINDS)}
        return Audit(
            findings=tuple(sorted(kept, key=lambda finding: order[finding.kind])),
            images=n,
            labeled=int((self.features.labels != UNLABELED).sum()),
            class_names=self.features.class_names,
            parts=dict(Counter(part for part in self.features.parts if part)),
            skipped=skipped,
            notes=(*notes, *typical),
            spec=self.features.spec,
        )


def _label_errors(features: Features, learner: Any, random_state: int | None, notes: list[str]) -> list[AuditFinding]:
    errors = find_label_errors(features, learner, random_state=random_state)
    if errors.agreement < TRUSTED:
        notes.append(
            f"out-of-fold predictions agree with {100 * errors.agreement:.0f} % of the labels, so that many of the "
            f"doubted labels are right; use an encoder that is better suited to these images ({argument('encoder')})"
        )
    names = features.class_names or tuple(map(str, range(int(features.labels.max()) + 1)))
    found = []
    for row, other, confidence in zip(errors.rows, errors.suggested, errors.self_confidence, strict=True):
        label, suggested = names[features.labels[row]], names[other]
        detail = f"labeled '{label}' ({100 * confidence:.1f} % probable), predicted '{suggested}'"
        found.append(AuditFinding("label", (features.ids[row],), detail, float(confidence), label, suggested))
    return found


def _outliers(features: Features) -> list[AuditFinding]:
    rows, similarity = outlying(features.vectors, features.labels)
    return [
        AuditFinding("outlier", (features.ids[i],), f"mean cosine {s:.3f} to the nearest of its class", float(s))
        for i, s in zip(rows.tolist(), similarity.tolist(), strict=True)
    ]


def _class_text(encoder: Any, items: Items) -> ClassText | None:
    """Return vectors of the class names, to find indistinguishable names; None without a text tower."""
    names = items.class_names
    if not encoder.has_text or not names or not np.any(items.labels != UNLABELED):
        return None
    return encoder.embed_texts([[DEFAULT_TEMPLATE.format(name)] for name in names], names)
