"""Evaluation of masks that ``segment`` wrote against true masks of the user."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.card_names import MASKS
from modalign.core.errors import InputError, argument
from modalign.core.files import read_json, read_text
from modalign.core.name_matching import did_you_mean, match_names, quoted
from modalign.core.progress import track
from modalign.data.names import natural_key
from modalign.evaluate.masks.confusion_counts import ConfusionCounter
from modalign.evaluate.masks.iou import SegmentationScores
from modalign.segmentation.mask_entries import is_class_entry, is_image_entry
from modalign.segmentation.mask_folder import FORMAT
from modalign.segmentation.mask_png import Color, mask_size, read_mask, read_palette
from modalign.segmentation.segmented import label_type, none_label

_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_LIMIT = 2**32  # bytes of masks.json
IGNORE_WORD = "ignore"
"""In a file of mask classes: pixels of this value do not count."""


@dataclass(frozen=True)
class MaskPair:
    """A photo's predicted and true mask."""

    file: str
    mask: Path
    truth: Path


@dataclass(frozen=True, eq=False)
class MaskEvaluation:
    """Predicted masks, their truth, and the scores.

    Attributes
    ----------
    scores : SegmentationScores
        SegmentationScores.
    pairs : tuple of MaskPair
        Compared masks, in the order of ``scores.images``.
    colors : ndarray of shape (K, 3), uint8
        Colors of the classes.
    reader : TruthReader
        How the values of the truth are read.
    record : mapping
        Encoder, features and settings, as ``masks.json`` has them.
    notes : tuple of str
        Messages, such as masks without a counterpart.
    """

    scores: SegmentationScores
    pairs: tuple[MaskPair, ...]
    colors: np.ndarray
    reader: TruthReader
    record: Mapping[str, Any]
    notes: tuple[str, ...]

    def worst(self, n: int = 10) -> list[int]:
        """The images with the lowest mean IoU by themselves, lowest first; images that do not count are left out."""
        own = self.scores.image_miou
        order = np.argsort(own, kind="stable")
        return [int(i) for i in order if np.isfinite(own[i])][:n]


class TruthReader:
    """Files of true masks → class numbers.

    Parameters
    ----------
    classes : sequence of sequence of str
        The names of every class.
    ignore : int, default=None
        Value of pixels that do not count. None: 255, or 65535 above 255 classes.
    mask_classes : str or Path, default=None
        File with the class of each value, if the values are not class numbers: a name per line for the values
        0, 1, …, or lines ``value name``, or JSON of value → name. The name ``ignore`` stands for pixels that do not
        count.
    palette : str or Path, default=None
        File of the colors of the values; see :func:`~modalign.segmentation.mask_png.read_palette`.

    Raises
    ------
    InputError
        A file cannot be read, or names something that is no class.
    """

    def __init__(
        self,
        classes: Sequence[Sequence[str]],
        *,
        ignore: int | None = None,
        mask_classes: str | Path | None = None,
        palette: str | Path | None = None,
    ) -> None:
        self.none = none_label(label_type(len(classes)))
        self.ignore = self.none if ignore is None else ignore
        self.palette: tuple[Color, ...] | None = None if palette is None else read_palette(palette)
        self.table: dict[int, int] | None = None
        if mask_classes is not None:
            self.table = {self.ignore: self.none} | _class_of_values(mask_classes, classes, self.none)

    def read(self, path: Path) -> np.ndarray:
        """The class numbers of a true mask, (H, W), with 255 (65535 above 255 classes) where pixels do not count."""
        values = read_mask(path, self.palette)
        if self.table is None:
            if self.ignore == self.none:
                return values
            if (values == self.none).any():
                raise InputError(f"Expected class numbers or {self.ignore} in '{path}', got {self.none}.")
            return np.where(values == self.ignore, self.none, values)
        strange = np.setdiff1d(values, list(self.table))
        if strange.size:
            raise InputError(f"Expected only values of {argument('mask_classes')} in '{path}', got {strange[0]}.")
        lookup = np.zeros(max(self.table) + 1, dtype=np.int64)
        lookup[list(self.table)] = list(self.table.values())
        return lookup[values]


def evaluate_masks(
    masks: str | Path,
    truth: str | Path,
    *,
    ignore: int | None = None,
    mask_classes: str | Path | None = None,
    palette: str | Path | None = None,
) -> MaskEvaluation:
    """Compare a folder that ``segment`` wrote with a folder of true masks; files are paired by path without ending.

    Parameters
    ----------
    masks : str or Path
        Folder with ``masks.json``.
    truth : str or Path
        Folder of true masks: indexed or gray images with 8 or 16 bits, of the size of the photos.
    ignore, mask_classes, palette : int or None, default=None
        See :class:`TruthReader`.

    Raises
    ------
    InputError
        No pair, different sizes, or values that are no class; raised before counting if file headers show it.
    """
    document = read_document(masks)
    classes = [entry["names"] for entry in document["classes"]]
    names = [entry["name"] for entry in document["classes"]]
    reader = TruthReader(
        [[name, *own] for name, own in zip(names, classes, strict=True)],
        ignore=ignore, mask_classes=mask_classes, palette=palette,
    )  # fmt: skip
    pairs, notes = _pairs(Path(masks), document, Path(truth))
    counter = ConfusionCounter(names)
    for pair in track(pairs, "Comparing masks", unit="masks"):
        counter.add(read_mask(pair.mask), reader.read(pair.truth), pair.file)
    scores = counter.scores()
    notes += _absent_note(scores)
    colors = np.array([entry["color"] for entry in document["classes"]], dtype=np.uint8)
    record = {key: document.get(key, "") for key in ("encoder", "features", "settings")}
    return MaskEvaluation(scores, tuple(pairs), colors, reader, record, tuple(notes))


def _absent_note(scores: SegmentationScores) -> list[str]:
    """A note on classes that are predicted but not in the truth, whose IoU of 0 enters the mean."""
    absent = [c.name for c in scores.per_class if c.share_predicted and not c.share_true]
    return [f"no true pixel of {quoted(absent, 3)}, predicted for others: IoU 0 in the mean"] if absent else []


def read_document(folder: str | Path) -> dict[str, Any]:
    """The content of ``masks.json`` in a folder that ``segment`` wrote."""
    path = Path(folder) / MASKS
    if not path.is_file():
        raise InputError(f"Expected a folder of masks written by segment, '{folder}' has no {MASKS}.")
    document = read_json(path, "masks", _LIMIT)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"Expected the format {FORMAT} in '{path}', got {str(document)[:40]!r}; run segment again.")
    classes, images = document.get("classes"), document.get("images")
    if not isinstance(document.get("settings"), dict) or not isinstance(classes, list) or not isinstance(images, list):
        raise InputError(f"Expected classes, settings and images in '{path}', some are missing; run segment again.")
    if not all(map(is_class_entry, classes)) or not all(is_image_entry(entry, len(classes)) for entry in images):
        raise InputError(f"Expected whole entries in '{path}', parts of some are missing; run segment again.")
    return document


def _pairs(folder: Path, document: Mapping[str, Any], truth: Path) -> tuple[list[MaskPair], list[str]]:
    """Masks with their truth, and notes on those without."""
    if not truth.is_dir():
        raise InputError(f"Expected a folder of true masks, '{truth}' is not one.")
    files = [p for p in sorted(truth.rglob("*"), key=lambda p: natural_key(p.as_posix()))
             if p.suffix.lower() in _ENDINGS and p.is_file() and not p.name.endswith(".overlay.png")]  # fmt: skip
    by_path = {p.relative_to(truth).with_suffix("").as_posix(): p for p in files}
    stems = Counter(p.stem for p in files)
    by_stem = {p.stem: p for p in files if stems[p.stem] == 1}
    pairs, alone, used = [], [], set()
    for entry in document["images"]:
        stem = Path(entry["file"]).with_suffix("")
        found = by_path.get(stem.as_posix()) or by_path.get(str(entry["mask"])[:-4]) or by_stem.get(stem.name)
        if found is None or found in used:
            alone.append(entry["file"])
            continue
        used.add(found)
        size = mask_size(found)
        if size != (entry["width"], entry["height"]):
            raise InputError(
                f"Expected a true mask of the size of its photo, {entry['width']} × {entry['height']} pixels, "
                f"'{found}' has {size[0]} × {size[1]}; masks are never resized."
            )
        pairs.append(MaskPair(entry["file"], folder / entry["mask"], found))
    if not pairs:
        raise InputError(
            f"Expected true masks in '{truth}' with the names of the photos, such as '{Path(alone[0]).stem}.png'"
            if alone
            else f"Expected masks in '{folder}', there are none; check the photos that segment left out."
        )
    rest = [path.relative_to(truth).as_posix() for path in files if path not in used]
    notes = [f"{len(names):,} {what}: {quoted(names, 3)}" for names, what in
             ((alone, "photos without a true mask"), (rest, "true masks without a photo")) if names]  # fmt: skip
    return pairs, notes


def _class_of_values(path: str | Path, classes: Sequence[Sequence[str]], none: int) -> dict[int, int]:
    """Value of a mask → class number, from a file of mask classes."""
    named = _value_names(path)
    owner = {name: k for k, own in enumerate(classes) for name in own}
    matched = match_names(named.values(), owner)
    table = {}
    for value, name in named.items():
        if name == IGNORE_WORD and name not in matched:
            table[value] = none
        elif name in matched:
            table[value] = owner[matched[name]]
        else:
            raise InputError(
                f"Expected names of classes in '{path}', got '{name}' for the value {value}."
                f"{did_you_mean(name, owner)} Write '{IGNORE_WORD}' for values that do not count."
            )
    return table


def _value_names(path: str | Path) -> dict[int, str]:
    if Path(path).suffix.lower() == ".json":
        given = read_json(path, "a file of mask classes")
        pairs = list(enumerate(given)) if isinstance(given, list) else list(getattr(given, "items", list)())
    else:
        lines = [line.strip() for line in read_text(path, "a file of mask classes").splitlines() if line.strip()]
        numbered = [re.match(r"(\d+)[\s:,]+(.+)", line) for line in lines]
        pairs = [(m[1], m[2]) for m in numbered if m] if all(numbered) else list(enumerate(lines))
    if not pairs or not all(str(value).isdecimal() and isinstance(name, str) for value, name in pairs):
        raise InputError(f"Expected lines 'value name' or a name per line in '{path}', or JSON of value → name.")
    return {int(value): name.strip() for value, name in pairs}
