"""Page of a folder of masks: each photo under its classes, which can be switched on and off.

Unlike the other pages it has a script, whose hash is in the page's security policy. The page makes no requests, and no
other script runs in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from modalign.core.errors import UndecodableError
from modalign.core.files import write
from modalign.core.progress import track
from modalign.core.record import versions
from modalign.data.itemset import Items
from modalign.report.examples import data_uri
from modalign.report.style import FONT, style_sheet
from modalign.report.templating import render
from modalign.report.text import count, without_folders
from modalign.segmentation.mask_png import read_mask
from modalign.segmentation.overlay import LEAST_SHARE, share_text

SHOWN, LISTED = 200, 8
"""Photos on a page, which a browser opens quickly, and classes that are named below a photo."""
_MANY, _SIDE, _SMALL_SIDE = 60, 640, 400  # pixels of the longer side up to so many photos, and above
_CRISP = 96  # photos no larger are shown pixel by pixel


@dataclass(frozen=True)
class PageClass:
    """A class over all photos: its share of their pixels, and the mean confidence of its pixels (None: it has none)."""

    id: int
    name: str
    names: Sequence[str]
    color: str
    share: float
    confidence: float | None
    n_images: int

    @property
    def share_text(self) -> str:
        """The share in percent."""
        return share_text(self.share)


@dataclass(frozen=True)
class PagePhoto:
    """A photo on the page: its entry in ``masks.json``, and its pixels and labels as small pictures."""

    entry: Mapping[str, Any]
    classes: Sequence[PageClass]
    photo: str
    mask: str
    crisp: bool

    @cached_property
    def segments(self) -> list[tuple[PageClass, str, float, float]]:
        """(class, share in percent as text, share, mean confidence), largest first."""
        ordered = sorted(self.entry["segments"], key=lambda s: -s["share"])
        return [
            (self.classes[s["class_id"]], share_text(s["share"]), s["share"], s["mean_confidence"]) for s in ordered
        ]

    @property
    def listed(self) -> list[tuple[PageClass, str, float, float]]:
        """The segments that are named below the photo: the largest ones that are not tiny, at least one."""
        return self.segments[: max(1, sum(s[2] >= LEAST_SHARE for s in self.segments[:LISTED]))]

    @property
    def unlisted(self) -> tuple[str, str] | None:
        """How many classes are not named below the photo, and their share."""
        rest = self.segments[len(self.listed) :]
        more = count(len(rest), "more class", "more classes")
        return (more, share_text(sum(s[2] for s in rest))) if rest else None

    @property
    def none_share(self) -> str:
        """Share of the pixels without a class, in percent as text; empty if all have one."""
        return share_text(self.entry["none_share"]) if self.entry["none_share"] else ""

    @property
    def alt(self) -> str:
        """Alternative text of the mask."""
        parts = [f"{own.name} {share}" for own, share, _, _ in self.segments]
        if self.none_share:
            parts.append(f"no class {self.none_share}")
        return f"{without_folders(self.entry['file'])}: {', '.join(parts)}"


def save_mask_page(document: Mapping[str, Any], items: Items, folder: str | Path) -> Path:
    """Write ``index.html`` into a folder of masks.

    Parameters
    ----------
    document : mapping
        The content of ``masks.json``.
    items : Items
        The photos. Those that cannot be read any more are left out.
    folder : str or Path
        Where the masks are.
    """
    classes = page_classes(document)
    entries = document["images"][:SHOWN]
    side = _SIDE if len(entries) <= _MANY else _SMALL_SIDE
    row_of = {file: i for i, file in enumerate(items.ids)}
    photos = []
    for entry in track(entries, "Writing the page", unit="photos"):
        try:
            photo = items.open(row_of[entry["file"]])
        except (KeyError, UndecodableError):
            continue
        labels = read_mask(Path(folder) / entry["mask"])
        crisp = max(photo.size) <= _CRISP
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        uri = data_uri(photo, "png", optimize=True) if crisp else data_uri(photo, "jpeg", quality=80, optimize=True)
        photos.append(PagePhoto(entry, classes, uri, _labels_uri(labels, photo.size), crisp))
    return write(Path(folder) / "index.html", mask_page(document, classes, photos).encode())


def mask_page(document: Mapping[str, Any], classes: Sequence[PageClass], photos: Sequence[PagePhoto]) -> str:
    """The whole document."""
    templates = files("modalign.report").joinpath("templates")
    css, own_css, script = (
        templates.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "masks.css", "masks.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    won = sorted((c for c in classes if c.n_images), key=lambda c: -c.share)
    n = len(document["images"])
    return render(
        "masks.html",
        title=f"{count(n, 'photo')}, {count(len(classes), 'class', 'classes')}",
        lead=_lead(document, won),
        style=Markup(style_sheet() + (css + own_css).replace("FONT", FONT)),
        script=Markup(script),
        digest=digest,
        classes=won,
        never=[c.name for c in classes if not c.n_images],
        colors=json.dumps([entry["color"] for entry in document["classes"]], separators=(",", ":")),
        photos=photos,
        hidden=n - len(photos),
        quarantined=[(without_folders(q["id"]), without_folders(q["reason"])) for q in document["quarantined"]],
        record=_record(document),
    )


def page_classes(document: Mapping[str, Any]) -> list[PageClass]:
    """The classes with their shares over all photos, which are weighted by their pixels."""
    n = len(document["classes"])
    pixels, sure, images = np.zeros(n), np.zeros(n), np.zeros(n, dtype=int)
    total = 0
    for entry in document["images"]:
        size = entry["width"] * entry["height"]
        total += size
        for segment in entry["segments"]:
            k = segment["class_id"]
            pixels[k] += segment["share"] * size
            sure[k] += segment["share"] * size * segment["mean_confidence"]
            images[k] += 1
    return [
        PageClass(
            k, c["name"], c["names"], "#{:02x}{:02x}{:02x}".format(*c["color"]), float(pixels[k]) / max(total, 1),
            float(sure[k] / pixels[k]) if pixels[k] else None, int(images[k]),
        )
        for k, c in enumerate(document["classes"])
    ]  # fmt: skip


def _labels_uri(labels: np.ndarray, size: tuple[int, int]) -> str:
    """A small picture whose red and green are the low and the high byte of the label; 255 in both is "none"."""
    values = labels.astype(np.uint16)
    if labels.dtype == np.uint8:
        values[values == 255] = 65535
    small = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))
    rgb = np.stack([small & 255, small >> 8, np.zeros_like(small)], axis=2).astype(np.uint8)
    return data_uri(Image.fromarray(rgb), "png", optimize=True)


def share_without_class(document: Mapping[str, Any]) -> float:
    """Share of the pixels of all photos that have no class."""
    sizes = [entry["width"] * entry["height"] for entry in document["images"]]
    none = sum(entry["none_share"] * size for entry, size in zip(document["images"], sizes, strict=True))
    return none / max(sum(sizes), 1)


def _lead(document: Mapping[str, Any], won: Sequence[PageClass]) -> str:
    """Result in one or two sentences."""
    none = share_without_class(document)
    if not won:
        return "No pixel has a class."
    first = won[0]
    text = f"The largest class is “{first.name}” with {first.share_text} of all pixels."
    if none:
        text += f" {share_text(none)} have no class, because no probability was high enough."
    return text


def _record(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings of the masks, for the foot of the page."""
    settings = {"encoder": document["encoder"]} | {k: v for k, v in document["settings"].items() if k != "encoder"}
    mapped = settings.get("map")
    if isinstance(mapped, dict):
        settings["map"] = f"GPUA, {mapped.get('z')}, {(mapped.get('vfm') or {}).get('name', 'no vision-only encoder')}"
    own = {k: v for k, v in settings.items() if isinstance(v, (str, int, float, bool)) and v != ""}
    own = {k: ("no", "yes")[v] if isinstance(v, bool) else v for k, v in own.items()}
    numbers = {k: f"{v:.6g}" if isinstance(v, float) else without_folders(str(v)) for k, v in own.items()}
    shown = {k: v[:12] if k.endswith("sha256") else v for k, v in numbers.items()}
    software = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [(name.replace("_", " "), value) for name, value in shown.items()] + [("versions", software)]
