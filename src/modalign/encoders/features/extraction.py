"""Extraction of image vectors; threads read and resize the next images during the forward pass.

A resumed run is bitwise equal to an uninterrupted one. On some machines the last bits of a row depend on the size of
its batch and its position, so the batches must be the same. A batch contains the next ``batch_size`` decodable images,
in the order of the items, whose content was not in the store *when the run began* (nor earlier in the run). Batches are
committed completely and in order. A killed run therefore leaves the first k batches, and the next run, which skips
those images, forms exactly the batches k+1, k+2, … of the uninterrupted run. Rows that another process commits in the
meantime do not change the batches; a batch that is completely cached by then is skipped.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError, UndecodableError
from modalign.core.progress import track
from modalign.core.renaming import stacklevel_outside
from modalign.data.blobs import Identity
from modalign.data.decoding.decode import decode, wastes_bits
from modalign.data.items import Items
from modalign.encoders.features.ahead import read_ahead
from modalign.encoders.features.store import FeatureStore, FileIndex, is_settled
from modalign.encoders.features.vector_table import VectorTable, remaking

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

A = TypeVar("A")
B = TypeVar("B")

COMMIT_SECONDS = 1.0
"""A killed process loses at most about this much work."""
_COMMIT_BATCHES = 64


@dataclass(frozen=True)
class _Prepared:
    """An item in the pipeline: its pixels, or the reason for none (neither, if its vector is cached)."""

    index: int
    content: bytes = b""  # SHA-256 of the bytes; empty if they could not be had
    pixels: np.ndarray | None = None
    dim: bool | None = None  # whether a 16-bit picture leaves its top bits empty; None for other pictures
    reason: str | None = None
    lasting: bool = True  # whether the reason is a property of the content
    identity: Identity | None = None  # set if the file can be recognized by it in the next run


def extract(
    encoder: Encoder, items: Items, view: str, batch_size: int, tokens: bool
) -> tuple[np.ndarray, np.ndarray | None, dict[int, str]]:
    """Return vectors and tokens of all decodable items, and the reason per index for the others, without caching."""

    def prepare(some: Sequence[int]) -> list[_Prepared]:
        return [_decoded(encoder, view, *_bytes(items, i)) for i in some]

    reasons: dict[int, str] = {}
    batch: list[np.ndarray] = []
    done: list[np.ndarray] = []
    patches: list[np.ndarray] = []

    def run() -> None:
        vectors, found = encoder.encode(batch, tokens=tokens)
        done.append(finite_vectors(encoder, vectors))
        if found is not None:
            patches.append(found.cpu().numpy())
        batch.clear()

    with closing(read_ahead(prepare, range(len(items)), 2 * batch_size, items.size)) as prepared:
        for item in _noting(track(prepared, f"Embedding on {encoder.device_name}", total=len(items), unit="images")):
            if item.pixels is None:
                reasons[item.index] = item.reason or ""
                continue
            batch.append(item.pixels)
            if len(batch) == batch_size:
                run()
    if batch:
        run()
    if not done:
        return np.empty((0, encoder.spec.dim), dtype=np.float32), None, reasons
    return np.concatenate(done), np.concatenate(patches) if patches else None, reasons


@remaking
def extract_cached(
    encoder: Encoder, items: Items, view: str, batch_size: int, store: FeatureStore
) -> tuple[np.ndarray, dict[int, str]]:
    """Like :func:`extract`, with the store: only missing items are read, decoded and encoded."""
    identities = [items.identity(i) for i in range(len(items))]
    spec = encoder.spec
    with store.files() as files, store.table(spec.fingerprint, view, spec.dim) as table:
        contents = files.contents(identities)
        known = [content for content in contents if content is not None]
        began_with = len(table)
        found = table.find(known)
        here = {content for content, row in found.items() if row < began_with}
        refused = files.refusals(known)
        reasons = {i: refused[c] for i, c in enumerate(contents) if c is not None and c in refused}
        todo = [i for i, content in enumerate(contents) if content not in here and i not in reasons]

        def prepare(some: Sequence[int]) -> list[_Prepared]:
            read = [_read(items, i, identities[i]) for i in some]
            names = [item.content for item, _ in read if item.content]
            there = {content for content, row in table.find(names).items() if row < began_with}
            known_bad = files.refusals(names)
            found = []
            for item, data in read:
                if item.content in known_bad:
                    item = replace(item, reason=known_bad[item.content])
                elif item.content not in there:
                    item = _decoded(encoder, view, item, data)
                found.append(item)
            return found

        with closing(read_ahead(prepare, todo, 2 * batch_size, items.size)) as prepared:
            steps = track(prepared, f"Embedding on {encoder.device_name}", total=len(todo), unit="images")
            reasons |= _fill(encoder, table, files, _noting(steps), batch_size, contents)
        good = [content for i, content in enumerate(contents) if content is not None and i not in reasons]
        return table.read(good, table.find(good) if todo else found), reasons


def _bytes(items: Items, i: int) -> tuple[_Prepared, bytes]:
    """Return the bytes of one item, or the reason for none, which is not cached."""
    try:
        return _Prepared(i), items.read(i)
    except UndecodableError as error:
        return _Prepared(i, reason=str(error), lasting=False), b""


def _read(items: Items, i: int, identity: Identity | None) -> tuple[_Prepared, bytes]:
    """The bytes of one item and their hash, and whether the file may be recognized from now on."""
    began = time.time_ns()
    item, data = _bytes(items, i)
    if item.reason is not None:
        return item, data
    settled = is_settled(identity, began) and identity == items.identity(i)
    return _Prepared(i, hashlib.sha256(data).digest(), identity=identity if settled else None), data


def _decoded(encoder: Encoder, view: str, item: _Prepared, data: bytes) -> _Prepared:
    """Add the pixels or the reason for none; unchanged without bytes."""
    if item.reason is not None:
        return item
    try:
        picture = decode(data, target=encoder.preprocessing.target)
        pixels = encoder.preprocessing.prepare(picture, view)
    except UndecodableError as error:
        return replace(item, reason=str(error), lasting=error.lasting)
    except MemoryError:
        return replace(item, reason="not enough memory to resize it at this moment", lasting=False)
    return replace(item, pixels=pixels, dim=wastes_bits(data, picture))


def _noting(items: Iterable[_Prepared]) -> Iterator[_Prepared]:
    """The same items; at their end a note if all 16-bit pictures among them are almost black."""
    dim: list[bool] = []
    for item in items:
        if item.dim is not None:
            dim.append(item.dim)
        yield item
    if dim and all(dim):
        pictures = "1 picture of 16 bits leaves" if len(dim) == 1 else f"all {len(dim)} pictures of 16 bits leave"
        warnings.warn(
            f"{pictures} the top bits empty and so almost black; if the data has fewer bits (12 from microscopes "
            "and X-ray), scale it to 16 bits first.",
            stacklevel=stacklevel_outside(),
        )


def _fill(
    encoder: Encoder,
    table: VectorTable,
    files: FileIndex,
    steps: Iterable[_Prepared],
    batch_size: int,
    contents: list[bytes | None],  # of all items, completed here
) -> dict[int, str]:
    """Encode what is new batch by batch and commit; returns what could not be decoded."""
    reasons: dict[int, str] = {}
    claimed: set[bytes] = set()
    writer = _Writer(encoder, table, files)
    batch: list[_Prepared] = []
    try:
        for item in steps:
            contents[item.index] = item.content or None
            if item.reason is not None:
                reasons[item.index] = item.reason
            writer.learn(item)
            if item.pixels is None or item.content in claimed:
                continue
            claimed.add(item.content)
            batch.append(item)
            if len(batch) == batch_size:
                writer.encode(batch)
                batch = []
        if batch:
            writer.encode(batch)
    finally:  # encoded vectors are kept also after Ctrl-C
        writer.commit()
    return reasons


class _Writer:
    """Encodes batches and commits them now and then, whole and in order."""

    def __init__(self, encoder: Encoder, table: VectorTable, files: FileIndex) -> None:
        self._encoder, self._table, self._files = encoder, table, files
        self._waiting: list[tuple[list[bytes], Tensor]] = []
        self._learned: list[_Prepared] = []
        self._committed_at = time.monotonic()

    def learn(self, item: _Prepared) -> None:
        self._learned.append(item)

    def encode(self, batch: list[_Prepared]) -> None:
        contents = [item.content for item in batch]
        if len(self._table.find(contents)) < len(contents):
            # Stays on the device until the commit, so that a GPU has the next batch before this one is waited for.
            pixels = [item.pixels for item in batch if item.pixels is not None]
            self._waiting.append((contents, self._encoder.encode(pixels)[0]))
        if len(self._waiting) >= _COMMIT_BATCHES or time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        learned, self._learned = self._learned, []
        if waiting:
            vectors = finite_vectors(self._encoder, torch.cat([v for _, v in waiting]))
            self._table.add([content for some, _ in waiting for content in some], vectors)
        self._files.record((i.identity, i.content) for i in learned if i.identity is not None)
        self._files.refuse((i.content, i.reason) for i in learned if i.lasting and i.reason is not None)
        self._committed_at = time.monotonic()


def finite_vectors(encoder: Encoder, vectors: Tensor) -> np.ndarray:
    """Copy vectors to the CPU as float32; raise if a value is not finite."""
    found = vectors.cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError(
            f"Encoder '{encoder.name}' gave vectors that are not finite in {encoder.spec.dtype}; "
            "check its weights, or load it in float32 (in Python: load_encoder(…, dtype='float32'))."
        )
    return found
