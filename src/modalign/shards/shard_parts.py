"""Writing of parts: equal rows give equal bytes, and parts are written atomically."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modalign.core.errors import InputError, require
from modalign.core.features import Quarantined
from modalign.core.files import parse_json
from modalign.core.part_files import CARD_FILE, FORMAT_OF_PARTS, MANIFEST_FILE, require_whole, sealed
from modalign.data.names import natural_key
from modalign.shards.part_store import PartStore

_DAMAGES = (OSError, ValueError, KeyError, TypeError, RuntimeError)
"""What pyarrow and the reading of a footer raise for damaged bytes."""


class PartRows(NamedTuple):
    """The rows of one part: n images that could be used with a column of values each, and those that could not."""

    ids: Sequence[str]
    contents: Sequence[bytes | None]
    columns: dict[str, Any]
    left_out: Sequence[Quarantined]


@dataclass(frozen=True)
class PartReport:
    """Facts about a part that are known without reading its rows."""

    shard: str
    file: str
    rows: int
    unreadable: int
    classes: tuple[str, ...]
    bytes: int
    sha256: str


def part_file(key: str) -> str:
    """Name of the part with this key."""
    return f"part-{key}.parquet"


def vector_columns(vectors: np.ndarray, labels: Sequence[str | None]) -> dict[str, Any]:
    """``vector``, a list of fixed size, and ``label`` of (n, d) vectors."""
    arrow = require("pyarrow", "parquet")
    return {"vector": _fixed_size(vectors), "label": arrow.array(labels, arrow.string())}


def answer_columns(probabilities: np.ndarray, names: Sequence[str], rejected: list[bool] | None) -> dict[str, Any]:
    """``name``, ``probability``, the (n, C) ``probabilities`` as float32 lists, and ``rejected`` if requested."""
    arrow = require("pyarrow", "parquet")
    best = probabilities.max(axis=1, initial=0.0)
    columns = {"name": arrow.array(names, arrow.string()), "probability": arrow.array(best, arrow.float32())}
    if rejected is not None:
        columns["rejected"] = arrow.array(rejected, arrow.bool_())
    return columns | {"probabilities": _fixed_size(probabilities.astype(np.float32))}


def write_part(store: PartStore, file: str, shard: str, settings: dict[str, Any], rows: PartRows) -> PartReport:
    """Write a part under its name, unless it is there.

    Images that could not be used come last, with a reason and nulls. Equal rows give equal bytes, so that any of
    several writers of one part may be first.
    """
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    n, q = len(rows.ids), len(rows.left_out)
    columns = {
        "id": arrow.array([*rows.ids, *(entry.id for entry in rows.left_out)], arrow.string()),
        "sha256": arrow.array([*rows.contents, *[None] * q], arrow.binary(32)),
    }
    for name, values in rows.columns.items():
        column = values if isinstance(values, arrow.Array) else arrow.array(values, arrow.string())
        columns[name] = arrow.concat_arrays([column, arrow.nulls(q, column.type)]) if q else column
    columns["reason"] = arrow.array([*[None] * n, *(entry.reason for entry in rows.left_out)], arrow.string())
    labels = rows.columns["label"].to_pylist() if "label" in rows.columns else []
    classes = sorted({label for label in labels if label is not None}, key=natural_key)
    note = {"format": FORMAT_OF_PARTS, "shard": shard, "rows": n, "unreadable": q, "classes": classes, **settings}
    table = arrow.table(columns).replace_schema_metadata({"modalign": json.dumps(note, sort_keys=True)})
    stream = io.BytesIO()
    parquet.write_table(
        table, stream, compression="zstd", use_dictionary=["label", "part", "name", "reason"],
        write_page_checksum=True, row_group_size=max(1, len(table)), store_schema=True,
    )  # fmt: skip
    content = stream.getvalue()
    store.write(file, content, overwrite=False)
    return PartReport(shard, file, n, q, tuple(classes), len(content), hashlib.sha256(content).hexdigest())


def read_report(store: PartStore, file: str, shard: str) -> PartReport:
    """Read the footer of a part and the hash of its bytes; an InputError if it is damaged or of another shard."""
    parquet = require("pyarrow.parquet", "parquet")
    try:
        with store.open(file) as stream:
            note = parse_json(parquet.read_metadata(stream).metadata[b"modalign"].decode(), f"'{file}'")
        counts = int(note["rows"]), int(note["unreadable"])
        if note["shard"] != shard:
            raise ValueError(f"it is a copy of the part of '{note['shard']}', not that of '{shard}'")
        return PartReport(shard, file, *counts, tuple(note["classes"]), store.size(file), store.sha256(file))
    except _DAMAGES as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"Expected a part, '{file}' in '{store}' is damaged: {reason}; run the command again with --verify."
        ) from None


def known_hashes(store: PartStore) -> dict[str, str]:
    """Hashes of parts by name, of the manifest; {} if there is none that can be read."""
    try:
        parts = parse_json(store.read(MANIFEST_FILE, "a manifest").decode(), "the manifest")["parts"]
        return {str(part["file"]): str(part["sha256"]) for part in parts}
    except (ValueError, KeyError, TypeError):
        return {}


def sound_report(store: PartStore, file: str, shard: str, sha256: str | None, *, pages: bool) -> PartReport | None:
    """The report of a part, or None if it is damaged and has to be computed again.

    A sound part is that of its shard, and has the hash that the manifest names.

    Parameters
    ----------
    store, file, shard : PartStore, str, str
        The part, and the shard that it belongs to.
    sha256 : str or None
        Its hash in the manifest; None if no manifest names it.
    pages : bool
        Read the rows too: all pages have their checksums, and the rows are as many as the footer says, each once.
    """
    try:
        report = read_report(store, file, shard)
    except InputError:
        return None
    if (sha256 is not None and report.sha256 != sha256) or (pages and not _has_its_rows(store, report)):
        return None
    return report


def _has_its_rows(store: PartStore, report: PartReport) -> bool:
    parquet = require("pyarrow.parquet", "parquet")
    try:
        with store.open(report.file) as stream:
            table = parquet.read_table(stream, page_checksum_verification=True)
        unreadable, ids = len(table) - table["reason"].null_count, table["id"].to_pylist()
    except _DAMAGES:
        return False
    return (len(table) - unreadable, unreadable, len(set(ids))) == (report.rows, report.unreadable, len(table))


def agree_on_card(store: PartStore, kind: str, source: str, settings: dict[str, Any]) -> None:
    """Write what the rows in ``store`` are, or raise unless it holds rows of the same settings and source."""
    entries = {"format": FORMAT_OF_PARTS, "kind": kind, "source": source, "settings": settings}
    if not store.exists(CARD_FILE):
        store.write(CARD_FILE, sealed(entries), overwrite=False)
    found = _card_of(store)
    for name, value in json.loads(json.dumps(entries)).items():
        there = found.get(name) if isinstance(found, dict) else None
        if there != value:
            differ = [key for key in value if not isinstance(there, dict) or there.get(key) != value[key]]
            what = f"{', '.join(differ)} of another run" if name == "settings" else f"{name} '{there}', not '{value}'"
            raise InputError(f"Expected an empty folder, '{store}' holds parts with {what}; choose another folder.")


def settings_of(store: PartStore) -> dict[str, Any]:
    """The settings that the card of a folder of parts names; {} if there is none yet."""
    found = _card_of(store) if store.exists(CARD_FILE) else None
    settings = found.get("settings") if isinstance(found, dict) else None
    return settings if isinstance(settings, dict) else {}


def _card_of(store: PartStore) -> Any:
    what = "the card of a folder of parts"
    advice = "delete this file and run the command again"
    text = store.read(CARD_FILE, what)
    try:
        found = parse_json(text.decode(), f"'{CARD_FILE}'")
    except ValueError:
        raise InputError(f"Expected {what}, '{CARD_FILE}' in '{store}' is damaged; {advice}.") from None
    require_whole(found, CARD_FILE, store, advice)
    return found


def close_set(
    store: PartStore, kind: str, settings: dict[str, Any], reports: Sequence[PartReport], first: Sequence[str]
) -> None:
    """Write the manifest of a finished set.

    Parameters
    ----------
    store : PartStore
        Holds the parts.
    kind : str
        "features" or "answers".
    settings : dict
        Of the rows.
    reports : sequence of PartReport
        All parts, in the order of the shards.
    first : sequence of str
        Class names that the source puts in order, also of classes without an image; others follow in natural order.
    """
    others = {name for report in reports for name in report.classes} - set(first)
    entries = {
        "format": FORMAT_OF_PARTS,
        "kind": kind,
        "settings": settings,
        "classes": [*first, *sorted(others, key=natural_key)],
        "rows": sum(report.rows for report in reports),
        "unreadable": sum(report.unreadable for report in reports),
        "parts": [
            {
                "shard": r.shard,
                "file": r.file,
                "rows": r.rows,
                "unreadable": r.unreadable,
                "bytes": r.bytes,
                "sha256": r.sha256,
            }
            for r in reports
        ],
    }
    store.write(MANIFEST_FILE, sealed(entries))


def _fixed_size(values: np.ndarray) -> Any:
    """(n, d) numbers as an array of lists of d."""
    arrow = require("pyarrow", "parquet")
    flat = arrow.array(np.ascontiguousarray(values).reshape(-1))
    return arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
