"""A source as shards: the same ones in every run, as long as the source is the same."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError, argument
from modalign.core.files import plain_path, require_path
from modalign.core.part_files import FEATURES_KIND, MANIFEST_FILE, Manifest
from modalign.data.archives.archive import is_archive
from modalign.data.inventory import has_image_suffix, is_hidden
from modalign.data.items import Items, load_items
from modalign.data.names import natural_key, quoted
from modalign.data.remote import remote_address, walk
from modalign.data.remote_sources import file_name
from modalign.shards.parquet_images import count_row_groups
from modalign.shards.shard_sources import ArchiveShard, FeaturePartShard, ImageShard, RowGroupShard, Shard

IMAGES_PER_SHARD = 4096
"""Of a list of images, unless the number of shards is given: minutes of work, megabytes of vectors."""
MOST_FILES = 1_000_000  # that a range may name
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PATTERN = re.compile(r"[*\[]")


@dataclass(frozen=True)
class Plan:
    """The shards of a source.

    Attributes
    ----------
    source : str
        The name of the source, without the folders that it lies in and without what follows ``?`` in an address.
    shards : tuple of Shard
        In the order of the source; no two names are alike.
    class_names : tuple of str
        Where the source puts them in order; else those that the parts name.
    notes : tuple of str
        Messages for the user.
    """

    source: str
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_shards(
    source: str | os.PathLike[str] | Items | Sequence[str], count: int | None = None, *, addresses: bool = False
) -> Plan:
    """The shards of a source.

    ==========================================================  ==========================================
    an archive, a folder or a pattern of archives               a shard per archive
    a folder of parts of features                               a shard per part, for answers from vectors
    a ``.parquet`` file, a folder or a pattern of such files    a shard per row group
    any other source of :func:`~modalign.load_items`            ``count`` runs of images of the same length
    ==========================================================  ==========================================

    Any of these may be an address. A pattern has ``*``, ``[…]`` or ``{000..127}``.

    Parameters
    ----------
    source : str, PathLike, Items or sequence of str
        The images.
    count : int or None, default=None
        Number of runs of a list of images; by default of :data:`IMAGES_PER_SHARD` images each.
    addresses : bool, default=False
        As for :func:`~modalign.load_items`.

    Raises
    ------
    InputError
        The source holds no image, archive or table.
    """
    if count is not None and count < 1:
        raise InputError(f"Expected {argument('shards')} of at least 1, got {count}.")
    if isinstance(source, (str, os.PathLike)):
        source = plain_path(source)
        text = remote_address(source) or os.fspath(source)
        if os.path.isfile(os.path.join(text, MANIFEST_FILE)):
            return Plan(_short(text), tuple(_feature_parts(Path(text).absolute())))
        files = _files_of(text)
        if files is not None:
            return Plan(_short(text), tuple(_file_shards(files)))
        items = load_items(source, addresses=addresses)
    else:
        text = "a list of images"
        items = load_items(source, addresses=addresses)
    return Plan(_short(text), tuple(_runs(items, count)), items.class_names, items.notes)


@dataclass(frozen=True)
class _File:
    """An archive or a table: its name below the source, its path or address, and what changes with its content."""

    name: str
    place: str
    size: int
    version: str


def _feature_parts(folder: Path) -> Iterator[FeaturePartShard]:
    manifest = Manifest.read(folder, FEATURES_KIND)
    spec = EncoderSpec.read(manifest.settings.get("encoder"))
    for file, rows in zip(manifest.files, manifest.rows, strict=True):
        yield FeaturePartShard(file, folder, rows, spec)


def _runs(items: Items, count: int | None) -> Iterator[ImageShard]:
    """Consecutive runs of images, of lengths that differ by at most one; what cannot be listed goes with the first."""
    n = len(items)
    count = max(1, min(n, math.ceil(n / IMAGES_PER_SHARD) if count is None else count))
    bare = replace(items, quarantined=(), notes=(), given=())
    for k in range(count):
        run = bare.select(slice(k * n // count, (k + 1) * n // count))
        yield ImageShard(f"images {k * n // count}", replace(run, quarantined=items.quarantined) if k == 0 else run)


def _file_shards(files: Sequence[_File]) -> Iterator[Shard]:
    for file in files:
        stamp = (file.place, file.size, file.version)
        if not file.name.endswith(".parquet"):
            yield ArchiveShard(file.name, *stamp)
            continue
        for group in range(count_row_groups(file.place)):
            yield RowGroupShard(f"{file.name}:{group}", *stamp, group)


def _files_of(text: str) -> list[_File] | None:
    """The archives or Parquet files that a source consists of, or None if it is one of images."""
    if match := _RANGE.search(text):
        first, last = match.groups()
        if int(last) - int(first) >= MOST_FILES:
            raise InputError(f"Expected a range of at most {MOST_FILES:,} files, got '{match[0]}'.")
        numbers = (f"{k:0{len(first)}d}" for k in range(int(first), int(last) + 1))
        places = (text[: match.start()] + number + text[match.end() :] for number in numbers)
        found = [_file(place, file_name(place).name) for place in places]
    elif _holds_shards(file_name(text)) and not _PATTERN.search(text):
        found = [_file(text, file_name(text).name)]
    elif remote_address(text):
        found = _remote_files(text)
    elif _PATTERN.search(text) and not os.path.exists(text):
        paths = sorted(glob.glob(text), key=natural_key)
        if not paths:
            raise InputError(f"Expected archives or Parquet files, none matches '{text}'.")
        found = [_file(path, os.path.basename(path)) for path in paths]
    else:
        require_path(text, "images")
        folder = Path(text)
        entries = sorted(os.scandir(folder), key=lambda e: natural_key(e.name)) if folder.is_dir() else []
        names = [e.name for e in entries if _holds_shards(PurePosixPath(e.name))]
        _require_one_kind(folder, names, entries)
        found = [_file(str(folder / name), name) for name in names]
    if found and not all(_holds_shards(PurePosixPath(file.name)) for file in found):
        raise InputError(f"Expected archives or Parquet files, '{text}' also names '{found[0].name}'.")
    return _distinct(found) or None


def _require_one_kind(folder: Path, names: Sequence[str], entries: Sequence[os.DirEntry[str]]) -> None:
    """Raise where images lie beside archives and tables: one of both would be left out."""
    others = [e.name for e in entries if not is_hidden(e.name) and e.name not in names]
    images = [name for name in others if has_image_suffix(name) or (folder / name).is_dir()]
    if names and images:
        raise InputError(
            f"Expected a folder either of archives and Parquet files or of images, '{folder}' holds {quoted(names, 2)} "
            f"beside {quoted(images, 2)}; give one folder of images, or the files by a pattern such as "
            f"'{folder / ('*' + PurePosixPath(names[0]).suffix)}'."
        )


def _distinct(files: list[_File]) -> list[_File]:
    """The files, whose names begin with folders where the last parts of their paths are not all different."""
    if len({file.name for file in files}) == len(files):
        return files
    paths = [file.place.split("?")[0].replace(os.sep, "/").split("/") for file in files]
    shared = next((k for k, names in enumerate(zip(*paths, strict=False)) if len(set(names)) > 1), 0)
    return [replace(file, name="/".join(path[shared:])) for file, path in zip(files, paths, strict=True)]


def _remote_files(address: str) -> list[_File]:
    """Archives and Parquet files below an address or of a pattern, [] if it is a folder of images or one file."""
    pattern = _PATTERN.search(address.partition("://")[2])
    if not pattern and PurePosixPath(file_name(address)).suffix:
        return []
    if address.lower().startswith("http"):
        return []
    root = address[: address.index("://") + 3 + pattern.start()].rsplit("/", 1)[0] if pattern else address
    listed = [_File(name, place, size or 0, version) for name, place, size, version in walk(root)]
    if pattern:
        tail = address[len(root) + 1 :]
        listed = [file for file in listed if PurePosixPath(file.name).match(tail)]
    return sorted((f for f in listed if _holds_shards(PurePosixPath(f.name))), key=lambda f: natural_key(f.name))


def _file(place: str, name: str) -> _File:
    if not (address := remote_address(place)):
        try:
            status = os.stat(place)
        except (OSError, ValueError):  # a null byte
            raise InputError(f"Expected an archive or a Parquet file, '{place}' does not exist.") from None
        return _File(name, os.path.abspath(place), status.st_size, str(status.st_mtime_ns))
    if address.lower().startswith("http"):
        return _File(name, address, 0, address)
    ((_, place, size, version),) = walk(address)
    return _File(name, place, size or 0, version)


def _holds_shards(name: PurePosixPath) -> bool:
    return is_archive(name) or name.name.lower().endswith(".parquet")


def _short(text: str) -> str:
    if remote_address(text):
        return text.split("?")[0]
    return os.path.basename(os.path.abspath(text)) if os.path.exists(text) else os.path.basename(text)
