"""The photos of a benchmark data set and their true label maps, from the layout in which the set is published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modalign.core.errors import InputError
from modalign.core.files import read_text
from modalign.core.name_matching import quoted
from modalign.data.items import load_items
from modalign.data.itemset import Items
from modalign.data.names import natural_key
from modalign.segmentation.mask_png import read_mask
from modalign.segmentation.sets.label_maps import Rule, apply_rule
from modalign.segmentation.sets.segmentation_sets import SegmentationSet, segmentation_set


@dataclass(frozen=True, eq=False)
class ScenePairs:
    """n photos of a data set with their masks, which are decoded on access.

    Attributes
    ----------
    row : SegmentationSet
        SegmentationSet.
    items : Items
        The photos.
    masks : tuple of Path
        The mask of every photo, in the same order.
    rule : Rule
        Rule for the values of the masks.
    """

    row: SegmentationSet
    items: Items
    masks: tuple[Path, ...]
    rule: Rule

    def __len__(self) -> int:
        return len(self.masks)

    def truth(self, i: int) -> np.ndarray:
        """The true label map of photo ``i``, (H, W) uint8; 255 is ignored."""
        return apply_rule(read_mask(self.masks[i]), self.rule, self.row.n_classes, f"'{self.masks[i]}'")

    @property
    def note(self) -> str:
        """Note on the number of pairs, since lists of other lengths exist."""
        usual = "" if len(self) == self.row.n_images else f"; the usual list has {self.row.n_images:,}"
        return f"{self.row.title}: {len(self):,} photos with masks{usual}"


def open_segmentation_set(name: str, root: str | Path) -> ScenePairs:
    """The validation photos of a data set with their masks.

    Parameters
    ----------
    name : str
        See :func:`~modalign.segmentation.sets.segmentation_sets.segmentation_set`.
    root : str or Path
        The data root, in which the data set lies as it is published.

    Raises
    ------
    InputError
        A folder, the list or masks are missing; the sentence names what, and where the data set comes from.
    """
    row = segmentation_set(name)
    part = row.parts[0]
    photos = _photos(row, Path(root), part)
    masks, rule = _masks(row, Path(root), part, list(photos.values()))
    _require_files(row, f"a mask for each of the {len(masks):,} photos", masks)
    return ScenePairs(row, load_items(list(photos)), tuple(masks), rule)


def training_photos(name: str, root: str | Path) -> Items:
    """The training photos of a data set, without their masks; see :func:`open_segmentation_set`."""
    row = segmentation_set(name)
    return load_items(list(_photos(row, Path(root), row.parts[1])))


def _photos(row: SegmentationSet, root: Path, part: str) -> dict[Path, dict[str, str]]:
    """Return every photo of a part → the values of ``{id}`` and ``{group}`` in its path."""
    folder = root / row.images.partition("{id}")[0].partition("{group}")[0].format(part=part)
    if not folder.is_dir():
        raise _missing(row, "folder", folder)
    if row.lists:
        path = root / row.lists.format(part=part)
        if not path.is_file():
            raise _missing(row, "list", path)
        names = [line.split()[0] for line in read_text(path, "a list of images").splitlines() if line.strip()]
        found = {root / row.images.format(part=part, id=name): {"id": name} for name in names}
        _require_files(row, f"every photo of '{path}'", list(found))
    else:
        tail = row.images.format(part=part, id="*", group="*")
        parts = re.escape(row.images.format(part=part, id="\0", group="\1"))
        pattern = re.compile(parts.replace("\0", "(?P<id>[^/]+)").replace("\1", "(?P<group>[^/]+)"))
        photos = sorted(root.glob(tail), key=lambda photo: natural_key(photo.as_posix()))
        matches = ((photo, pattern.fullmatch(photo.relative_to(root).as_posix())) for photo in photos)
        found = {photo: match.groupdict() for photo, match in matches if match}
    if not found:
        raise _missing(row, "photos in", folder)
    return found


def _masks(row: SegmentationSet, root: Path, part: str, keys: Sequence[Mapping[str, str]]) -> tuple[list[Path], Rule]:
    """The mask of every photo, in the first form of which the first photo has one, and the rule of this form."""
    for pattern, rule in row.truths:
        if (root / pattern.format(part=part, **keys[0])).is_file():
            return [root / pattern.format(part=part, **key) for key in keys], rule
    raise _missing(row, "mask", root / row.truths[0][0].format(part=part, **keys[0]))


def _require_files(row: SegmentationSet, what: str, paths: Sequence[Path]) -> None:
    if lacking := [str(path) for path in paths if not path.is_file()]:
        are = "is" if len(lacking) == 1 else "are"
        raise InputError(
            f"Expected {what} of {row.title}, {quoted(lacking, 2)} {are} not there; get the data set from: "
            f"{row.source}."
        )


def _missing(row: SegmentationSet, what: str, path: Path) -> InputError:
    return InputError(
        f"Expected the {what} '{path}' of {row.title}, it is not there; get the data set from: {row.source}."
    )
