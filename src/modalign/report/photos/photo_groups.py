"""Photos with captions, one or several to a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from modalign.core.errors import UndecodableError
from modalign.data.items import Items
from modalign.report.examples import is_tiny, thumbnail
from modalign.report.templating import render
from modalign.report.text import without_folders

PHOTOS = 4  # of one group
_KEPT = (512, 512)  # pixels of a photo until its thumbnail is made


@dataclass(frozen=True)
class PhotoGroup:
    """Photos under one caption.

    Attributes
    ----------
    photos : sequence of (str, PIL.Image.Image or None)
        Names and pictures; None for a picture that cannot be shown.
    caption : str
        What they are.
    note : str, default=""
        A number, or a detail, in small print.
    hidden : int, default=0
        How many photos of the group are not among ``photos``.
    """

    photos: Sequence[tuple[str, Image.Image | None]]
    caption: str
    note: str = ""
    hidden: int = 0


@dataclass(frozen=True)
class PhotoGroups:
    """Groups of photos side by side, as many in a row as fit."""

    groups: Sequence[PhotoGroup]

    def html(self) -> str:
        """The groups, photos embedded, everything escaped."""
        shown = [
            {
                "caption": group.caption,
                "note": group.note,
                "hidden": group.hidden,
                "names": ", ".join(name for name, _ in group.photos),
                "photos": [
                    (name, _source(image), image is not None and is_tiny(image)) for name, image in group.photos
                ],
            }
            for group in self.groups
        ]
        return render("photo_groups.html", groups=shown)


def photo_group(items: Items, ids: Sequence[str], caption: str, note: str = "") -> PhotoGroup:
    """The first few of the named images of ``items`` under a caption; those that cannot be read keep their place."""
    place = {name: i for i, name in enumerate(items.ids)}
    photos: list[tuple[str, Image.Image | None]] = []
    for name in ids[:PHOTOS]:
        image = None
        try:
            image = items.open(place[name])
            image.thumbnail(_KEPT)
        except (KeyError, UndecodableError):
            pass
        photos.append((without_folders(name), image))
    return PhotoGroup(photos, caption, note, max(0, len(ids) - PHOTOS))


def _source(image: Image.Image | None) -> str:
    return "" if image is None else thumbnail(image)
