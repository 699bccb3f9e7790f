"""Input shards: runs of images of a list, archives, and row groups of Parquet files.

A shard can be sent to another process and is opened there. :meth:`Shard.stamp` identifies its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from modalign.core.encoder_spec import EncoderSpec
from modalign.core.features import Features
from modalign.core.part_files import read_feature_part
from modalign.data.blobs import BytesBlob, FileBlob
from modalign.data.items import Items, load_with_sets
from modalign.data.remote import RemoteBlob, local_copy, remote_address
from modalign.shards.parquet_images import read_row_group

KEY_DIGITS = 20  # of 16 values each: two of a billion shards share a key with a probability below 1e-6


class Shard(Protocol):
    """A part of the input.

    Attributes
    ----------
    name : str
        Unique among the shards of a source and the same in every run.
    """

    @property
    def name(self) -> str: ...

    def stamp(self) -> object:
        """Return JSON values that change whenever the content may have changed."""

    def open(self) -> AbstractContextManager[Items | tuple[Features, list[bytes]]]:
        """The images, or vectors with hashes of images; they can be read while the context is open."""


def key_of(shard: Shard, settings: str) -> str:
    """The name of the part that is made of ``shard`` with these settings, as hexadecimal digits."""
    text = json.dumps([settings, shard.name, shard.stamp()], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True)
class ImageShard:
    """A run of a list of images."""

    name: str
    items: Items

    def stamp(self) -> object:
        """Names, classes, parts, and for each file its size and time stamps."""
        names = self.items.class_names
        labels = [None if k < 0 else names[k] for k in self.items.labels.tolist()]
        return [list(self.items.ids), labels, self.items.parts.tolist(), list(map(_stamp, self.items.blobs))]

    def open(self) -> AbstractContextManager[Items]:
        """The images as they are."""
        return nullcontext(self.items)


@dataclass(frozen=True)
class ArchiveShard:
    """A tar or zip file, on this machine or behind an address.

    Attributes
    ----------
    name : str
        Stands before the names of its images.
    place : str
        Path or address.
    size, version : int, str
        Of the file.
    """

    name: str
    place: str
    size: int
    version: str

    def stamp(self) -> object:
        """Size and age of the file."""
        return [self.size, self.version]

    @contextmanager
    def open(self) -> Iterator[Items]:
        """The members that are images; labels by folders, or by the files beside the images as WebDataset has them."""
        with _local(self.place) as path:
            items, several = load_with_sets(path)
            items = items.unlabeled() if several else items  # vectors have one class
            yield replace(items, ids=tuple(f"{self.name}/{name}" for name in items.ids), given=())


@dataclass(frozen=True)
class RowGroupShard:
    """A row group of a Parquet file, on this machine or behind an address; fields as of :class:`ArchiveShard`.

    Attributes
    ----------
    group : int
        Number of the row group.
    """

    name: str
    place: str
    size: int
    version: str
    group: int

    def stamp(self) -> object:
        """Size and age of the file, and the row group."""
        return [self.size, self.version, self.group]

    @contextmanager
    def open(self) -> Iterator[Items]:
        """The images of the rows."""
        yield read_row_group(self.place, self.group, self.name)


@dataclass(frozen=True)
class FeaturePartShard:
    """A part of a finished set of features, whose vectors are there already.

    Attributes
    ----------
    name : str
        File name of the part.
    folder : Path
        Folder of the set.
    rows : int
        Vectors of the part.
    spec : EncoderSpec
        Encoder of the set.
    """

    name: str
    folder: Path
    rows: int
    spec: EncoderSpec

    def stamp(self) -> object:
        """Size of the file, whose name is a hash of what it was computed from."""
        return (self.folder / self.name).stat().st_size

    @contextmanager
    def open(self) -> Iterator[tuple[Features, list[bytes]]]:
        """The vectors, and the hashes of the images that they are of."""
        part = read_feature_part(self.folder / self.name, self.rows)
        features = Features(part.vectors, ids=tuple(part.ids), spec=self.spec, quarantined=tuple(part.quarantined))
        yield features, part.contents


def _local(place: str) -> AbstractContextManager[Path]:
    return local_copy(place) if remote_address(place) else nullcontext(Path(place))


def _stamp(blob: object) -> object:
    """Return values that change with the bytes of an image, independent of its location."""
    if isinstance(blob, RemoteBlob):
        return [blob.size(), blob.version] if blob.version or blob.size() else blob.address
    if isinstance(blob, FileBlob):
        identity = blob.identity()
        return None if identity is None else [identity[1], identity[2]]
    assert isinstance(blob, BytesBlob)
    return hashlib.sha256(blob.data).hexdigest()
