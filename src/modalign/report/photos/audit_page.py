"""Page of an audit: every kind of finding with its photos."""

from __future__ import annotations

from pathlib import Path

from modalign.audit.audit_findings import KINDS, NOUNS, Audit, AuditFinding
from modalign.core.record import versions
from modalign.data.items import Items
from modalign.evaluate.metrics import percent
from modalign.report.page import Page, PageSection
from modalign.report.photos.photo_groups import PhotoGroups, photo_group
from modalign.report.run_tables import Table
from modalign.report.statements import paragraphs
from modalign.report.text import count, without_folders

SHOWN = 24  # findings of a kind
FACTS = 4  # kinds whose count is at the top
ADVICE = {
    "leak": "A test on a training picture is invalid. Remove one of the copies, or move both into one part.",
    "contradiction": "At most one of the labels is right. Correct it, or remove the picture.",
    "label": "The given label, its probability, and the predicted class, according to models that were "
    "not fitted to the image. The least probable labels come first. Hard images with a right label are among them.",
    "duplicate": "Copies within a class do little harm, but count twice.",
    "outlier": "The images that resemble the nearest images of their class least. They may belong to no class.",
    "unreadable": "These files are left out of everything.",
    "dark": "The darkest come first.",
    "bright": "Almost all of the picture is white.",
    "blurred": "The least sharp come first, at 256 pixels. Pictures with soft contents are among them.",
    "tiny": "Encoders enlarge these pictures, which adds no detail.",
    "name": "Class names are put into sentences for the text encoder.",
}
"""Kind of a finding → advice."""


def audit_page(audit: Audit, items: Items | None = None) -> Page:
    """The page about an audit.

    Parameters
    ----------
    audit : Audit
        Result of :func:`~modalign.audit.auditing.audit_images`.
    items : Items or None, default=None
        The audited images, to show photos; without them only names are shown.
    """
    page = Page(
        f"Audit of {count(audit.images, 'image')}",
        _summary(audit),
        facts=[(f"{n:,}", _noun(kind, n)) for kind, n in list(audit.counts.items())[:FACTS]],
        record={
            "images": audit.images,
            "labeled": audit.labeled,
            "classes": len(audit.class_names),
            "parts": dict(audit.parts),
            "encoder": None if audit.spec is None else f"{audit.spec.name} ({audit.spec.fingerprint[:12]})",
            "versions": versions(),
        },
    )
    for kind, n in audit.counts.items():
        found = audit.of(kind)
        text = f"{ADVICE[kind]}{f' {n - SHOWN:,} more are not shown.' if n > SHOWN else ''}"
        heading = f"{KINDS[kind][:1].upper()}{KINDS[kind][1:]}: {n:,}"
        page.section(heading, text, blocks=_block(kind, found[:SHOWN], items))
    notes = [*audit.notes, *(f"{check} were not checked: {reason}" for check, reason in audit.skipped.items())]
    if notes:
        page.section("Notes", paragraphs(notes))
    return page


def save_audit_page(audit: Audit, path: str | Path, items: Items | None = None) -> Path:
    """Write :func:`audit_page` to a file, atomically."""
    return audit_page(audit, items).save(path)


def _summary(audit: Audit) -> str:
    found = [f"{n:,} {_noun(kind, n)}" for kind, n in audit.counts.items()]
    return f"Found {', '.join(found)}." if found else "Nothing was found."


def _noun(kind: str, n: int) -> str:
    noun = NOUNS.get(kind, kind)
    return noun if n == 1 else f"{noun}s"


def _block(kind: str, found: tuple[AuditFinding, ...], items: Items | None) -> PageSection:
    title = _noun(kind, 2).capitalize()
    if kind == "name":
        return Table(["warning"], [[finding.detail] for finding in found], title=title)
    if items is None or kind == "unreadable":
        rows = [[", ".join(map(without_folders, f.ids)), without_folders(f.detail)] for f in found]
        return Table(["image", "detail"], rows, title=title)
    groups = []
    for finding in found:
        caption, note = finding.detail, ""
        if kind == "label":
            caption, note = (
                f"{finding.label} → {finding.suggested}",
                f"given label {percent(finding.score or 0.0)} % probable",
            )
        groups.append(photo_group(items, finding.ids, caption, note))
    return PhotoGroups(groups)
