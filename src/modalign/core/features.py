"""Containers of image features and class text features, the interface between encoders and methods.

Both hold NumPy arrays, so methods do not depend on an encoder and users can pass vectors of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np

from modalign.core.arguments.argument_types import checked_arguments, checked_init
from modalign.core.arrays import is_finite, real_array, row_numbers
from modalign.core.display import visible
from modalign.core.encoder_spec import EncoderSpec, require_spec
from modalign.core.errors import InputError
from modalign.core.features_card import Quarantined as Quarantined
from modalign.core.features_card import check_parts
from modalign.core.features_files import read_features, read_npz_features, write_features, write_npz_features
from modalign.core.files import local_path
from modalign.core.labels import UNLABELED, check_ids, check_names, label_indices, places_of
from modalign.core.part_files import mapped_parts

SHOWN = 20  # classes in the table of a notebook


@checked_init
@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Image vectors with ids, labels, class names and the encoder they come from.

    Pass everything except the vectors by keyword: ``Features(X, labels=y, class_names=names)``.

    Attributes
    ----------
    vectors : ndarray of shape (n, d), float32
        Unit rows; may be a read-only memory map.
    ids : tuple of str, default=()
        Names of the images, normally paths relative to the source. Default: the row numbers.
    labels : ndarray of shape (n,), int64, default=None
        Indices into ``class_names``; −1 where unknown. Default: all −1.
    class_names : tuple of str, default=()
        The C names, in label order.
    tokens : ndarray of shape (n, L, d) or None, default=None
        Patch vectors if they were requested, else None.
    spec : EncoderSpec or None, default=None
        The encoder, None for vectors of unknown origin.
    quarantined : tuple of Quarantined, default=()
        Items that were left out, with reasons.
    parts : tuple of str, default=()
        "train", "validation", "test" or "" for each image, as marked by its source; empty if nothing is marked.

    Raises
    ------
    InputError
        Vectors or tokens are not real numbers, ids are not text, labels are not integers or have no name, a class name
        is repeated, a part is unknown, or lengths differ.

    Examples
    --------
    >>> import modalign as ma
    >>> import numpy as np
    >>> features = ma.Features(np.eye(3), labels=[0, 1, 0], class_names=["cat", "dog"])
    >>> features.select([0, 2]).labels
    array([0, 0])
    >>> path = features.save("features.npz")
    >>> ma.Features.load(path).class_names
    ('cat', 'dog')
    """

    vectors: np.ndarray
    ids: tuple[str, ...] = ()
    labels: np.ndarray = field(default=None)  # type: ignore[arg-type]  # ``__post_init__`` puts an array there
    class_names: tuple[str, ...] = ()
    tokens: np.ndarray | None = None
    spec: EncoderSpec | None = None
    quarantined: tuple[Quarantined, ...] = ()
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        vectors = real_array(self.vectors, "image vectors", "(n, d)")
        n = len(vectors)
        names = check_names(self.class_names, "class_names")
        labels = np.full(n, UNLABELED, dtype=np.int64)
        if self.labels is not None:
            labels = label_indices(self.labels, n, names)
        tokens = None if self.tokens is None else real_array(self.tokens, "tokens", "(n, L, d)")
        if tokens is not None and len(tokens) != n:
            raise InputError(f"Expected as many rows of tokens as image vectors ({n}), got {len(tokens)}.")
        require_spec(self.spec)
        if not all(isinstance(entry, Quarantined) for entry in self.quarantined):
            raise InputError("Expected quarantined as entries Quarantined(id, reason), got others.")
        checked = {
            "vectors": vectors,
            "ids": check_ids(self.ids, n, repeated=self.labels is not None),
            "labels": labels,
            "class_names": names,
            "quarantined": tuple(self.quarantined),
            "parts": check_parts(self.parts, n),
        }
        for name, value in (checked | {"tokens": tokens}).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Features({', '.join(self._facts())})"

    def _repr_html_(self) -> str:
        counts = np.bincount(self.labels[self.labels != UNLABELED], minlength=len(self.class_names)).tolist()
        names = self.class_names or [f"class {k}" for k in range(len(counts))]
        rows = [
            f"<tr><td>{escape(visible(name))}</td><td>{count}</td></tr>"
            for name, count in zip(names[:SHOWN], counts[:SHOWN], strict=True)
        ]
        if len(counts) > SHOWN:
            rows.append(f"<tr><td>… {len(counts) - SHOWN} more</td><td>{sum(counts[SHOWN:])}</td></tr>")
        table = f"<table><tr><th>class</th><th>images</th></tr>{''.join(rows)}</table>" if rows else ""
        return f"<p>Features: {escape(visible(', '.join(self._facts())))}</p>{table}"

    def _facts(self) -> list[str]:
        """Facts for ``repr``, a few words each."""
        known = self.labels != UNLABELED
        classes = len(self.class_names) or len(np.unique(self.labels[known]))
        facts = [f"{len(self):,} images", f"width {self.vectors.shape[1]}", f"{classes} classes"]
        if not known.all():
            facts.append(f"{int((~known).sum()):,} unlabeled")
        if self.tokens is not None:
            facts.append(f"{self.tokens.shape[1]} tokens each")
        if self.spec is not None:
            facts.append(f"encoder '{self.spec.name}'")
        if self.quarantined:
            facts.append(f"{len(self.quarantined)} quarantined")
        return facts

    def __len__(self) -> int:
        return len(self.vectors)

    def select(self, rows: np.ndarray | Sequence[int] | slice) -> Features:
        """Return the given rows in that order, with their ids, labels, tokens and parts."""
        index = row_numbers(rows, len(self))
        rows = rows if isinstance(rows, slice) else index  # a slice of a memory map is not copied
        return replace(
            self,
            vectors=self.vectors[rows],
            ids=tuple(self.ids[i] for i in index),
            labels=self.labels[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            parts=tuple(self.parts[i] for i in index) if self.parts else (),
        )

    def save(self, path: str | Path) -> Path:
        """Write one file, atomically; :meth:`load` reads it.

        ``.npz`` is compact and read into memory. ``.safetensors`` is mapped, so that features larger than memory can be
        used; vectors of float16 stay in float16 there. Neither holds code.

        Raises
        ------
        InputError
            Another ending, vectors that are not finite, or vectors that the type of the file would turn into zeros or
            infinity; a file that exists is kept.
        """
        path = local_path(path)
        if path.suffix not in _WRITERS:
            raise InputError(f"Expected a file name ending in .npz or .safetensors, got '{path.name}'.")
        return _WRITERS[path.suffix](path, self)

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read what :meth:`save` wrote, or any ``.npz`` with at least an array ``vectors``.

        The arrays of a ``.safetensors`` file are read-only memory maps.
        """
        path = local_path(path)
        found = read_features(path) if path.suffix == ".safetensors" else read_npz_features(path)
        return cls(**found)

    @classmethod
    def open(cls, path: str | Path) -> Features:
        """Features of a file, as :meth:`load`, or of a folder of parts that ``modalign embed --shards`` wrote.

        The parts of a folder are copied once into one file beside them, which is mapped from then on: n·d·2 bytes of
        disk for float16, and no memory beyond the names and labels. Needs pyarrow the first time.
        :func:`~modalign.core.part_files.stream_parts` reads part by part instead.

        Raises
        ------
        InputError
            The folder holds no finished set of parts, or a part is damaged.
        """
        path = local_path(path)
        return cls.load(mapped_parts(path) if path.is_dir() else path)


_WRITERS = {".npz": write_npz_features, ".safetensors": write_features}


def concatenate(parts: Sequence[Features]) -> Features:
    """Concatenate the rows of several :class:`Features` of one encoder, for example views of the same images."""
    first = parts[0]
    for part in parts[1:]:
        if first.spec is not None:
            first.spec.require(part.spec)
        if part.class_names != first.class_names:
            raise InputError("Expected features with the same class names in the same order.")
    return replace(
        first,
        vectors=np.concatenate([part.vectors for part in parts]),
        ids=tuple(name for part in parts for name in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        tokens=None if first.tokens is None else np.concatenate([part.tokens for part in parts]),
        quarantined=tuple(dict.fromkeys(q for part in parts for q in part.quarantined)),
        parts=tuple(name for part in parts for name in part.parts) if all(part.parts for part in parts) else (),
    )


@checked_init
@dataclass(frozen=True, eq=False, repr=False)
class ClassText:
    """Text vectors of C classes.

    Attributes
    ----------
    vectors : ndarray of shape (C, d)
        Or (C, T, d) with up to T sentences per class, float32 with unit rows. A class with fewer than T sentences is
        padded with zero rows, which do not change the mean direction of the class.
    class_names : tuple of str
        C names. Labels and features with class names are matched by name.
    sentences : tuple of tuple of str, default=()
        Embedded sentences of each class.
    spec : EncoderSpec or None, default=None
        The encoder.

    Raises
    ------
    InputError
        Vectors are not finite real numbers, the number of names differs from the number of classes, or a name is
        repeated.

    Examples
    --------
    >>> import modalign as ma
    >>> import numpy as np
    >>> text = ma.ClassText(np.eye(2, 4), ["cat", "dog"])
    >>> text.select(["dog"]).class_names
    ('dog',)
    """

    vectors: np.ndarray
    class_names: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...] = ()
    spec: EncoderSpec | None = None

    def __post_init__(self) -> None:
        vectors, names = real_array(self.vectors, "text vectors"), check_names(self.class_names, "class_names")
        require_spec(self.spec)
        if vectors.ndim not in (2, 3) or len(vectors) != len(names) or len(self.sentences) not in (0, len(names)):
            raise InputError(
                f"Expected text vectors of shape (C, d) or (C, T, d) and sentences of C = {len(names)} class names, "
                f"got {vectors.shape} and sentences of {len(self.sentences)} classes."
            )
        if any(isinstance(own, str) for own in self.sentences):
            raise InputError(
                "Expected sentences as a list of sentences per class, got a text per class; put each into a list."
            )
        if not is_finite(vectors):
            raise InputError("Expected finite text vectors, got NaN or infinity; embed the sentences again.")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "class_names", names)

    def __len__(self) -> int:
        return len(self.class_names)

    def __repr__(self) -> str:
        most = 1 if self.vectors.ndim == 2 else self.vectors.shape[1]
        sentences = "1 sentence each" if most == 1 else f"up to {most} sentences each"
        encoder = "" if self.spec is None else f", encoder '{self.spec.name}'"
        return f"ClassText({len(self)} classes, {sentences}, width {self.vectors.shape[-1]}{encoder})"

    @checked_arguments
    def select(self, class_names: Sequence[str]) -> ClassText:
        """Return the text of the named classes, in that order.

        Raises
        ------
        InputError
            A name has no text; the message suggests the nearest name that has text.
        """
        names = check_names(class_names, "class_names")
        if names == self.class_names:
            return self
        rows = places_of(names, self.class_names, f"Expected text for all {len(names)} classes")
        kept = tuple(self.sentences[i] for i in rows) if self.sentences else ()
        return replace(self, vectors=self.vectors[rows], class_names=names, sentences=kept)
