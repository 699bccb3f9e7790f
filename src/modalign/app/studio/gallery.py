"""Pictures for the page: thumbnails and photos by content hash, and placeholders for missing files."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from modalign.core.errors import InputError, UndecodableError
from modalign.core.files import make_folder, read_bytes, write
from modalign.data.copies import content_hash
from modalign.data.decoding.decode import decode
from modalign.data.itemset import Items
from modalign.encoders.features.store import FeatureStore

SIZES = {"thumb": 224, "photo": 1600}
"""Longest side of sent pictures, in pixels; smaller images are sent unchanged."""
_DECODING = 2  # pictures decoded at a time


def content_hashes_of(items: Items, store: FeatureStore | None) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of every image; files that are in the store are not read again."""
    known: list[bytes | None] = [None] * len(items)
    if store is not None:
        with store.files() as files:
            known = files.contents([items.identity(i) for i in range(len(items))])
    found = [content.hex()[:16] if content else content_hash(items, i) for i, content in enumerate(known)]
    return [
        content or _hash(f"gone: {items.ids[i]}".encode(errors="surrogateescape")) for i, content in enumerate(found)
    ]


class Gallery:
    """The pictures of a session, each under its content hash.

    Parameters
    ----------
    items : Items
        The images.
    contents : list of str
        Their content hashes.
    cache : Path
        Folder for thumbnails.
    """

    def __init__(self, items: Items, contents: list[str], cache: Path) -> None:
        self.items, self.cache = items, make_folder(cache)
        self._rows: dict[str, list[int]] = {}
        for row, content in enumerate(contents):
            self._rows.setdefault(content, []).append(row)
        self._decoding = threading.BoundedSemaphore(_DECODING)
        self.missing: dict[int, str] = {}

    def picture(self, content: str, size: str) -> bytes | None:
        """The image as WebP with a longest side of ``SIZES[size]`` pixels; None if it is gone or has changed.

        Only hashes of the session are looked up; anything else is None too.
        """
        if content not in self._rows or size not in SIZES:
            return None
        file = self.cache / content[:2] / f"{content}.webp"  # writing looks through the folder, which stays small
        if size == "thumb" and file.exists():
            with suppress(InputError):  # it is made again
                data = read_bytes(file, "a thumbnail")
                if _is_whole(data):
                    return data
        image = self._open(content, SIZES[size])
        if image is None:
            return None
        buffer = BytesIO()
        tiny = max(image.size) <= 64
        image.save(buffer, "WEBP", lossless=tiny, quality=100 if tiny else 82, method=2)
        if size == "thumb":
            with suppress(InputError):  # no room: it is made again next time
                make_folder(file.parent)
                write(file, buffer.getvalue(), durable=False)
        return buffer.getvalue()

    def _open(self, content: str, longest: int) -> Image.Image | None:
        """The image, smaller where it is larger; None after noting why none of its files can be shown."""
        for row in self._rows[content]:
            try:
                data = self.items.read(row)
                if _hash(data) != content:
                    raise UndecodableError("the file has changed since the studio was started")
                with self._decoding:
                    image = decode(data, target=lambda w, h: _within(w, h, longest))
                    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
                self.missing.pop(row, None)
                return image
            except UndecodableError as error:
                self.missing[row] = str(error)
        return None


def _is_whole(data: bytes) -> bool:
    """Whether a WebP file has the length that its header states; it may lack its end after a power failure."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 == len(data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _within(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def placeholder() -> bytes:
    """A picture that stands for an image that cannot be shown."""
    return (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 80" fill="none" stroke="#808a94" stroke-width="2">'
        b'<rect x="14" y="20" width="52" height="40" rx="3" stroke-dasharray="5 4"/>'
        b'<path d="m22 52 12-13 9 9 6-6 9 10"/></svg>'
    )


def project(vectors: np.ndarray, rows: np.ndarray, *, tsne: bool, seed: int = 0) -> np.ndarray:
    """(m, 2) positions in 0…1 of the vectors of ``rows``, by principal components or t-SNE.

    O(m d²) for principal components, O(m log m) per iteration for t-SNE.
    """
    X = np.asarray(vectors[rows], dtype=np.float32)
    if len(X) < 3:
        return np.full((len(X), 2), 0.5, dtype=np.float32)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    flat = PCA(min(50, *X.shape), random_state=seed).fit_transform(X)
    if tsne and len(X) > 10:
        perplexity = min(30.0, (len(X) - 1) / 3)
        flat = TSNE(init="pca", perplexity=perplexity, random_state=seed, method="barnes_hut").fit_transform(flat)
    flat = flat[:, :2] if flat.shape[1] > 1 else np.column_stack([flat, np.zeros(len(flat))])
    low, high = flat.min(axis=0), flat.max(axis=0)
    return ((flat - low) / np.maximum(high - low, 1e-12)).astype(np.float32)
