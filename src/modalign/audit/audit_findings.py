"""Findings of an audit, as values, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from modalign.core.display import SHOWN, html_table, text_table
from modalign.core.encoder_spec import EncoderSpec
from modalign.core.record import versions

KINDS: dict[str, str] = {
    "leak": "the same picture in two parts, such as train and test",
    "contradiction": "the same picture with two labels",
    "label": "labels that are probably wrong",
    "duplicate": "the same picture more than once",
    "outlier": "images unlike all others of their class",
    "unreadable": "files that cannot be decoded",
    "dark": "dark pictures",
    "bright": "overexposed pictures",
    "blurred": "blurred pictures",
    "tiny": "pictures with few pixels",
    "name": "class names",
}
"""Kind of a finding → description, the most harmful first."""
FOUND_BY: dict[str, str] = {
    **dict.fromkeys(("leak", "contradiction", "duplicate"), "copies"),
    **dict.fromkeys(("dark", "bright", "blurred", "tiny"), "pictures"),
    "label": "labels",
    "outlier": "outliers",
    "name": "names",
}
"""Kind → check that finds it; unreadable files are found by all."""
NOUNS: dict[str, str] = {
    "label": "doubtful label",
    "unreadable": "unreadable file",
    "dark": "dark picture",
    "bright": "overexposed picture",
    "blurred": "blurred picture",
    "tiny": "tiny picture",
    "name": "unclear class name",
}
"""Kind → name of one finding, if it differs from the kind."""


@dataclass(frozen=True)
class AuditFinding:
    """One finding of an audit.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    ids : tuple of str
        The images, several for copies; none for a class name.
    detail : str
        Description.
    score : float or None, default=None
        Sort key within the kind: the probability of the given label, the lowest cosine among copies, the
        mean cosine of an outlier, or the measured value of a picture.
    label, suggested : str, default=""
        For ``"label"``: the class as given, and the class that the image seems to belong to.
    """

    kind: str
    ids: tuple[str, ...]
    detail: str
    score: float | None = None
    label: str = ""
    suggested: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """The findings of :func:`~modalign.audit.auditing.audit_images`.

    Attributes
    ----------
    findings : tuple of AuditFinding
        Sorted by kind, in the order of :data:`KINDS`; within a kind the worst first.
    images, labeled : int
        Numbers of examined images, and of those with a label.
    class_names : tuple of str
        The classes.
    parts : mapping of str to int
        Images per part, if the source is divided.
    skipped : mapping of str to str
        Check → reason why it was skipped.
    notes : tuple of str
        Messages about the source.
    spec : EncoderSpec or None
        The encoder of the vectors.
    """

    findings: tuple[AuditFinding, ...]
    images: int
    labeled: int
    class_names: tuple[str, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    spec: EncoderSpec | None = None

    def of(self, kind: str) -> tuple[AuditFinding, ...]:
        """The findings of one kind, the worst first."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    @property
    def counts(self) -> dict[str, int]:
        """Kind → number of findings, in the order of :data:`KINDS`; kinds without any are left out."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and a row per kind: number of findings and description."""
        return ["finding", "count", "what it is"], [[kind, str(n), KINDS[kind]] for kind, n in self.counts.items()]

    def worst(self, limit: int) -> tuple[list[str], list[list[str]]]:
        """Header and rows of at most ``limit`` findings per kind."""
        rows = []
        for kind in self.counts:
            found = self.of(kind)
            rows += [[kind, _named(finding.ids), finding.detail] for finding in found[:limit]]
            if len(found) > limit:
                rows.append([kind, f"… {len(found) - limit} more", ""])
        return ["finding", "image", "detail"], rows

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "version": versions()["modalign"],
            "encoder": None if self.spec is None else {"name": self.spec.name, "fingerprint": self.spec.fingerprint},
            "images": self.images,
            "labeled": self.labeled,
            "classes": list(self.class_names),
            "parts": dict(self.parts),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        found = ", ".join(f"{kind} {n}" for kind, n in self.counts.items())
        return f"Audit({self.images} images: {found or 'nothing found'})"

    def __str__(self) -> str:
        return text_table(*self.table)

    def _repr_html_(self) -> str:
        return html_table(f"{self.images} images", *self.worst(SHOWN))


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{', '.join(ids[:3])}{more}"
