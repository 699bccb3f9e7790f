"""A folder of masks: PNG files per photo and one ``masks.json``, with resumption of killed runs.

Each finished photo has a line in a journal. A run with the same settings skips the photos of the journal, or of the
``masks.json`` of a run that ended, whose bytes are still the same. A run with other settings removes that file before
it replaces the first mask. The final files do not depend on where a run was
stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from modalign.core.card_names import MASKS
from modalign.core.errors import InputError
from modalign.core.features import Quarantined
from modalign.core.files import append_line, make_folder, parse_json, read_json, read_text, require_own_folder, write
from modalign.core.record import plain
from modalign.segmentation.mask_entries import is_image_entry
from modalign.segmentation.mask_png import class_colors, mask_png
from modalign.segmentation.overlay import overlay_png
from modalign.segmentation.rle import class_runs, compress_counts
from modalign.segmentation.segmented import Segmentation, none_label

FORMAT = "modalign-masks-1"
MODEL = "model"
"""Where a fitted segmenter may lie in the folder."""
_JOURNAL = "masks.partial.jsonl"
LOCK = ".masks.lock"
"""Of the run that writes into the folder."""
_LONGEST = 200  # bytes of a file name without its ending
_LIMIT = 2**32  # bytes of what an earlier run wrote


class MaskFolder:
    """Folder for the masks of one run.

    Parameters
    ----------
    folder : str or Path
        Created if it does not exist. It may hold an earlier run, whose photos with the same bytes and settings are
        kept.
    head : mapping
        Entries of ``masks.json`` about all photos; see :func:`document_head`.
    ids : sequence of str
        The names of all photos of the run, from which file names follow.

    Raises
    ------
    InputError
        The folder cannot be written or holds other files.
    """

    def __init__(self, folder: str | Path, head: Mapping[str, Any], ids: Sequence[str]) -> None:
        self.folder, self.head = Path(folder), dict(head)
        self.names = [str(entry["name"]) for entry in head["classes"]]
        self.colors = np.array([entry["color"] for entry in head["classes"]], dtype=np.uint8)
        self.places = mask_names(ids)
        check_mask_folder(folder)
        self._journal = self.folder / _JOURNAL
        self._entries = self._finished()

    def keep(self, file: str, content: str) -> bool:
        """Return whether an earlier run has finished a photo with these bytes; otherwise forget its entry.

        Parameters
        ----------
        file : str
            Name of the photo.
        content : str
            See :func:`~modalign.data.copies.content_hash`.
        """
        entry = self._entries.get(file)
        kept = entry is not None and bool(content) and entry["content"] == content and self._has_files(entry)
        if not kept:
            self._entries.pop(file, None)
        return kept

    def add(self, result: Segmentation, content: str) -> dict[str, Any]:
        """Write the mask and the overlay of a photo, then its line in the journal; returns its entry."""
        make_folder(self.folder)
        place = self.places[result.file]
        mask, picture = self.folder / f"{place}.png", self.folder / f"{place}.overlay.png"
        if "/" in place:
            make_folder(mask.parent)
        if not self._journal.exists():
            append_line(self._journal, _line({key: self.head[key] for key in ("format", "settings_sha256")}))
        if not self._same:  # its entries would describe masks of this run
            (self.folder / MASKS).unlink(missing_ok=True)
        background = not self.colors[0].any()
        write(mask, mask_png(result.labels, len(self.names), background=background))
        write(picture, overlay_png(result.picture(), result.labels, self.names, self.colors))
        entry = {"file": result.file, "mask": f"{place}.png", "content": content, **image_entry(result)}
        append_line(self._journal, _line(entry))
        self._entries[result.file] = entry
        return entry

    def close(self, ids: Sequence[str], quarantined: Sequence[Quarantined] = ()) -> dict[str, Any]:
        """Write ``masks.json`` with the photos in this order, remove the journal, and return the document."""
        images = [self._entries[file] for file in ids if file in self._entries]
        document = {**self.head, "images": images, "quarantined": [vars(q) for q in quarantined]}
        make_folder(self.folder)
        write(self.folder / MASKS, _document(document))
        self._journal.unlink(missing_ok=True)
        return document

    def _finished(self) -> dict[str, dict[str, Any]]:
        """Return file → entry of photos finished by an earlier run with the same settings; remove other journals."""
        entries: dict[str, dict[str, Any]] = {}
        self._same = False
        with suppress(InputError):  # none, or not whole: then nothing of it is kept
            document = read_json(self.folder / MASKS, "masks of an earlier run", _LIMIT)
            if isinstance(document, dict) and self._is_same(document) and isinstance(document.get("images"), list):
                entries |= self._whole(document["images"])
                self._same = True
        if self._journal.is_file():
            lines = read_text(self._journal, "a journal of masks", _LIMIT).splitlines()
            first, *rest = map(_parsed, lines or [""])
            if self._is_same(first):
                entries |= self._whole(rest)
            else:
                self._journal.unlink()
        return entries

    def _whole(self, entries: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """File → entry of the photos whose entries are as they were written."""
        return {entry["file"]: entry for entry in entries if is_image_entry(entry, len(self.names))}

    def _is_same(self, head: Mapping[str, Any]) -> bool:
        return head.get("format") == FORMAT and head.get("settings_sha256") == self.head["settings_sha256"]

    def _has_files(self, entry: Mapping[str, Any]) -> bool:
        place = self.places[entry["file"]]
        files = (self.folder / f"{place}{ending}" for ending in (".png", ".overlay.png"))
        return entry["mask"] == f"{place}.png" and all(file.is_file() for file in files)


def check_mask_folder(folder: str | Path) -> None:
    """Raise unless masks can be written to a folder: it is new, empty, or of an earlier run."""
    card = _JOURNAL if (Path(folder) / _JOURNAL).is_file() else MASKS
    require_own_folder(folder, "masks of an earlier run", card, lambda name: name in (MODEL, LOCK))


def document_head(
    settings: Mapping[str, Any], names: Sequence[str], words: Sequence[Sequence[str]], background: bool
) -> dict[str, Any]:
    """Return the entries of ``masks.json`` about all photos: format, encoder, features, settings and hash, classes.

    Parameters
    ----------
    settings : mapping
        :attr:`~modalign.Segmenter.settings`, which determine the labels.
    names : sequence of str
        The name of every class.
    words : sequence of sequence of str
        All its names.
    background : bool
        Whether class 0 is the background, which is black.
    """
    colors = class_colors(len(names), background=background).tolist()
    own = plain(settings)
    encoder = own.get("encoder", "")
    text = json.dumps([own, [list(own_words) for own_words in words]], sort_keys=True, ensure_ascii=False)
    return {
        "format": FORMAT,
        "encoder": encoder["name"] if isinstance(encoder, dict) else encoder,  # settings has its fingerprint
        "features": own.get("features", ""),
        "settings": own,
        "settings_sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "names_sha256": own.get("names_sha256", ""),
        "classes": [
            {"id": k, "name": name, "names": list(own_words), "color": color}
            for k, (name, own_words, color) in enumerate(zip(names, words, colors, strict=True))
        ],
    }


def image_entry(result: Segmentation) -> dict[str, Any]:
    """The entry of a photo in ``masks.json`` without its file names.

    Segments are the classes that occur, in class order. ``bbox`` is left, top, width and height in pixels; ``rle``
    and ``rle_compressed`` are the two forms of COCO.
    """
    height, width = result.labels.shape
    none = none_label(result.labels.dtype)
    n_classes = len(result.names)
    flat = np.minimum(result.labels, n_classes).ravel().astype(np.int64)
    confidence = np.bincount(flat, weights=result.confidence.ravel(), minlength=n_classes + 1)
    counts = np.bincount(flat, minlength=n_classes + 1)
    boxes = find_objects(result.labels.astype(np.int32) + 1, max_label=n_classes)
    segments = []
    for value, runs in class_runs(result.labels):
        if value == none:
            continue
        rows, columns = boxes[value]
        segments.append(
            {
                "class_id": value,
                "share": round(int(counts[value]) / flat.size, 6),
                "mean_confidence": round(float(confidence[value]) / int(counts[value]), 4),
                "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
                "rle": {"size": [height, width], "counts": runs},
                "rle_compressed": compress_counts(runs),
            }
        )
    none_share = round(int(counts[n_classes]) / flat.size, 6)
    return {"width": width, "height": height, "none_share": none_share, "segments": segments}


def mask_names(ids: Sequence[str]) -> dict[str, str]:
    """Photo → the path of its mask in the folder without ``.png``: the photo's own without its ending.

    Photos that would share a name keep their endings. Folders above are kept, and what leads out of the folder is not.
    """
    short = {file: _inside(file).with_suffix("").as_posix() for file in ids}
    taken: dict[str, int] = {}
    for place in short.values():
        for name in (place, f"{place}.overlay"):
            taken[name.casefold()] = taken.get(name.casefold(), 0) + 1
    return {
        file: _inside(file).as_posix()
        if taken[place.casefold()] > 1 or taken[f"{place}.overlay".casefold()] > 1
        else place
        for file, place in short.items()
    }


def _inside(file: str) -> PurePosixPath:
    """A relative path without ``..`` and without names that a file system would not take with another ending."""
    parts = [part for part in PurePosixPath(file.replace("\\", "/")).parts if part not in ("/", "..")]
    path = PurePosixPath(*parts) if parts else PurePosixPath("photo")
    encoded = path.name.encode("utf-8", "surrogateescape")
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        path = path.with_name(f"{encoded[: _LONGEST - 20].decode('utf-8', 'ignore')}-{digest}{path.suffix[:8]}")
    return path


def _parsed(line: str) -> dict[str, Any]:
    """A line of the journal; nothing for one that a killed writer cut short."""
    with suppress(InputError):
        value = parse_json(line, "the journal")
        if isinstance(value, dict):
            return value
    return {}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _document(document: Mapping[str, Any]) -> bytes:
    """Return JSON with a line for each entry of a list, for readability."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(entry, separators=(",", ":")) for entry in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()
