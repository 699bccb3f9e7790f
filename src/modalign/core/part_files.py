"""Folders of parts, written by ``modalign embed --shards`` and ``modalign predict --shards``.

::

    features/
      _card.json               what the rows are: kind, encoder, type
      part-<key>.parquet       the rows of one input shard
      _manifest.json           the parts of the finished set, in the order of the shards

A part of features has the columns ``id``, ``sha256`` of the image's bytes, ``vector`` (a list of fixed size, float16 or
float32), ``label`` (a class name), ``part`` and ``reason``. An image that cannot be used is a row with a reason and no
vector.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.card_names import CARD_FILE as CARD_FILE
from modalign.core.card_names import MANIFEST_FILE as MANIFEST_FILE
from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError, require
from modalign.core.features_card import Quarantined
from modalign.core.features_files import write_streamed
from modalign.core.files import read_bytes, read_json, require_path
from modalign.core.files.mapped import Streamed
from modalign.core.labels import UNLABELED

FORMAT_OF_PARTS = "modalign-parts/1"
PART_NAME = re.compile(r"part-[0-9a-f]{20}\.parquet")
FEATURES_KIND, ANSWERS_KIND = "features", "answers"
_MAPPED = "_features-{}.safetensors"
_DIGEST = "digest"


def sealed(entries: Mapping[str, Any]) -> bytes:
    """A card or manifest as JSON, with a digest of its entries, by which :func:`require_whole` finds damage."""
    return json.dumps({**entries, _DIGEST: _digest_of(entries)}, indent=1).encode()


def require_whole(entries: Any, file: str, place: object, advice: str) -> None:
    """Raise if the entries of a card or manifest do not match their digest; some files have none."""
    if isinstance(entries, dict) and entries.get(_DIGEST, found := _digest_of(entries)) != found:
        raise InputError(f"Expected a whole '{file}' in '{place}', it does not match its digest; {advice}.")


def _digest_of(entries: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in entries.items() if name != _DIGEST}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """A finished set of parts.

    Attributes
    ----------
    kind : str
        "features" or "answers".
    settings : dict
        Settings that the rows depend on.
    classes : tuple of str
        Names of all labels.
    files : tuple of str
        Names of the parts, in the order of the input shards.
    rows : tuple of int
        Rows of each part that have a vector or an answer.
    unreadable : int
        Rows that have a reason instead.
    digest : str
        Hash of the manifest.
    """

    kind: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    files: tuple[str, ...]
    rows: tuple[int, ...]
    unreadable: int
    digest: str

    @classmethod
    def read(cls, folder: Path, kind: str) -> Manifest:
        """The manifest of a folder; an InputError if there is none, or one of another kind."""
        require_path(folder, "a folder of parts")
        if not (folder / MANIFEST_FILE).is_file():
            begun = any(folder.glob("part-*.parquet")) or (folder / CARD_FILE).is_file()
            advice = "run the same command again to finish it" if begun else "give what 'modalign embed --shards' wrote"
            raise InputError(f"Expected a finished set of parts in '{folder}', it has no {MANIFEST_FILE}; {advice}.")
        entries = read_json(folder / MANIFEST_FILE, "a manifest of parts")
        require_whole(entries, MANIFEST_FILE, folder, "run the command that made it again, with --verify")
        wrong = InputError(f"Expected a manifest of {kind} ({FORMAT_OF_PARTS}), '{folder / MANIFEST_FILE}' is another.")
        if not isinstance(entries, dict) or (entries.get("format"), entries.get("kind")) != (FORMAT_OF_PARTS, kind):
            raise wrong
        parts, classes, settings = (entries.get(name) for name in ("parts", "classes", "settings"))
        if not isinstance(parts, list) or not isinstance(classes, list) or not isinstance(settings, dict):
            raise wrong
        if not all(isinstance(part, dict) and PART_NAME.fullmatch(str(part.get("file"))) for part in parts):
            raise wrong
        digest = hashlib.sha256(read_bytes(folder / MANIFEST_FILE, "a manifest of parts")).hexdigest()
        return cls(
            kind,
            settings,
            tuple(map(str, classes)),
            tuple(part["file"] for part in parts),
            tuple(int(part.get("rows", 0)) for part in parts),
            sum(int(part.get("unreadable", 0)) for part in parts),
            digest,
        )


def is_features_source(source: str | Path) -> bool:
    """Whether a path is of vectors: a features file, or a folder of parts."""
    path = Path(source)
    return path.suffix.lower() in (".npz", ".safetensors") or os.path.isfile(path / MANIFEST_FILE)  # never raises


@dataclass(frozen=True)
class FeaturePart:
    """The rows of one part of features, with the names of labels in place of indices.

    Attributes
    ----------
    ids : list of str
        k images that have a vector.
    contents : list of bytes
        SHA-256 of their bytes.
    vectors : ndarray of shape (k, d)
        float16 or float32.
    labels : list of str or None
        Class names, None where unknown.
    parts : list of str
        "train", "validation", "test" or "".
    quarantined : list of Quarantined
        Images without a vector.
    """

    ids: list[str]
    contents: list[bytes]
    vectors: np.ndarray
    labels: list[str | None]
    parts: list[str]
    quarantined: list[Quarantined]


def stream_parts(folder: str | Path) -> Iterator[FeaturePart]:
    """The parts of a finished set of features, one in memory at a time.

    Raises
    ------
    InputError
        The set is not finished, or a part is missing or damaged.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder, FEATURES_KIND)
    for file, rows in zip(manifest.files, manifest.rows, strict=True):
        yield read_feature_part(folder / file, rows)


def read_feature_part(path: Path, rows: int) -> FeaturePart:
    """Read one part of features, which has ``rows`` vectors according to the manifest."""
    parquet = require("pyarrow.parquet", "parquet")
    try:
        table = parquet.read_table(path, page_checksum_verification=True, memory_map=False)
        reasons = table["reason"].to_pylist()
        good = table.filter([reason is None for reason in reasons])
        width = table.schema.field("vector").type.list_size
        vectors = good["vector"].combine_chunks().flatten().to_numpy().reshape(-1, width)
    except FileNotFoundError:
        raise InputError(f"Expected the part '{path}', which the manifest names; it does not exist.") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(
            f"Expected a part of features, '{path}' is damaged: {text}; delete it and run the command that made it."
        ) from None
    if len(vectors) != rows or len(good) != rows:
        raise InputError(f"Expected {rows} vectors in '{path}', got {len(vectors)}; it belongs to another manifest.")
    pairs = zip(table["id"].to_pylist(), reasons, strict=True)
    return FeaturePart(
        good["id"].to_pylist(),
        good["sha256"].to_pylist(),
        vectors,
        good["label"].to_pylist(),
        [part or "" for part in good["part"].to_pylist()],
        [Quarantined(name, reason) for name, reason in pairs if reason is not None],
    )


def mapped_parts(folder: str | Path) -> Path:
    """One file with the vectors of all parts, to be mapped; written beside them by the first call."""
    folder = Path(folder)
    manifest = Manifest.read(folder, FEATURES_KIND)
    path = folder / _MAPPED.format(manifest.digest[:20])
    if path.exists():
        return path
    spec = EncoderSpec.read(manifest.settings.get("encoder"))
    index = {name: k for k, name in enumerate(manifest.classes)}
    ids: list[str] = []
    labels: list[np.ndarray] = []
    parts: list[str] = []
    quarantined: list[dict[str, str]] = []
    for part in stream_parts(folder):  # everything but the vectors, which are read again as they are written
        ids += part.ids
        parts += part.parts
        quarantined += [vars(entry) for entry in part.quarantined]
        codes = [UNLABELED if label is None else index.get(label, UNLABELED) for label in part.labels]
        labels.append(np.array(codes, dtype=np.int64))
    kind = np.dtype("<f2" if manifest.settings.get("type") == "float16" else "<f4")
    vectors = Streamed((len(ids), spec.dim), kind, (part.vectors for part in stream_parts(folder)))
    names = (ids, manifest.classes, parts if any(parts) else ())
    card = {"spec": vars(spec), "quarantined": quarantined}
    return write_streamed(path, vectors, np.concatenate(labels, dtype=np.int64), names, card)
