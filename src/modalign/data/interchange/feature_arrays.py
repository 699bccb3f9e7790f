"""Arrays of vectors in folders, as written by clip-retrieval and scripts for open_clip."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import InputError, require, require_choice
from modalign.core.features import UNLABELED, Features
from modalign.core.files import new_folder
from modalign.data.interchange.labeled_rows import require_format
from modalign.data.names import natural_key

MOST_CLASSES = 1_000_000  # numbers of classes without names
_PART = re.compile(r"img_emb_(\d+)\.npy")


def is_arrays_folder(folder: Path) -> bool:
    """Whether a folder is laid out as :func:`read_feature_arrays` reads it."""
    return (folder / "img_emb").is_dir() or (folder / "features.npy").is_file()


def read_feature_arrays(folder: str | Path) -> Features:
    """Vectors of clip-retrieval: ``img_emb/img_emb_N.npy`` with ``metadata/metadata_N.parquet``, or bare arrays.

    A folder without ``img_emb`` is read as ``features.npy`` with, if there, ``labels.npy``, ``ids.json`` and
    ``classes.json``.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    Features
        Unit rows in float32, without an encoder. Ids are the column ``image_path`` of the metadata; a column ``label``
        gives the labels.

    Raises
    ------
    InputError
        There are no arrays, or they do not fit each other.
    """
    root = Path(folder)
    parts = sorted((root / "img_emb").glob("img_emb_*.npy"), key=_number) if (root / "img_emb").is_dir() else []
    if parts:
        vectors = np.concatenate([_array(path, 2) for path in parts])
        tables = [_metadata(root / "metadata" / f"metadata_{_number(path)}.parquet") for path in parts]
        names: list[Any] = [name for table in tables for name in table.get("image_path", [])]
        labels: list[Any] = [label for table in tables for label in table.get("label", [])]
    else:
        vectors = _array(root / "features.npy", 2)
        names = _listed(root / "ids.json")
        labels = _array(root / "labels.npy", 1).tolist() if (root / "labels.npy").exists() else []
    for what, values in (("ids", names), ("labels", labels)):
        require_format(len(values) in (0, len(vectors)), f"{len(vectors)} {what}, one per vector,", root, len(values))
    known, classes = _classes(labels, _listed(root / "classes.json"), len(vectors), root)
    return Features(_unit(vectors, root), ids=tuple(map(str, names)), labels=known, class_names=classes)


def write_feature_arrays(features: Features, folder: str | Path, *, layout: str = "arrays") -> Path:
    """Write vectors to a new folder, whole or not at all, as :func:`read_feature_arrays` reads them.

    Parameters
    ----------
    features : Features
        Vectors, labels and ids.
    folder : str or Path
        A new or empty folder.
    layout : {"arrays", "clip-retrieval"}, default="arrays"
        ``features.npy``, ``labels.npy`` and ``ids.json``; or ``img_emb/img_emb_0.npy`` with the columns ``image_path``
        and ``label`` of ``metadata/metadata_0.parquet``. Both with ``classes.json``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        The folder holds files, or the layout is unknown.
    """
    require_choice("layout", layout, ("arrays", "clip-retrieval"))
    with new_folder(folder) as root:
        (root / "classes.json").write_text(json.dumps(list(features.class_names)), encoding="utf-8")
        if layout == "clip-retrieval":
            _write_parts(features, root)
        else:
            np.save(root / "features.npy", np.asarray(features.vectors))
            np.save(root / "labels.npy", features.labels)
            (root / "ids.json").write_text(json.dumps(list(features.ids)), encoding="utf-8")
    return Path(folder)


def _write_parts(features: Features, root: Path) -> None:
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    (root / "img_emb").mkdir()
    (root / "metadata").mkdir()
    np.save(root / "img_emb" / "img_emb_0.npy", np.asarray(features.vectors))
    columns = {"image_path": pyarrow.array(features.ids, pyarrow.string())}
    if features.class_names:
        names = [None if k == UNLABELED else features.class_names[k] for k in features.labels.tolist()]
        columns["label"] = pyarrow.array(names, pyarrow.string())
    parquet.write_table(pyarrow.table(columns), root / "metadata" / "metadata_0.parquet")


def _number(path: Path) -> int:
    match = _PART.fullmatch(path.name)
    require_format(match, "arrays called img_emb_N.npy", path.parent, path.name)
    assert match is not None
    return int(match[1])


def _array(path: Path, ndim: int) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"Expected vectors as 'img_emb' or 'features.npy' in '{path.parent}', found none.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"Expected an array of numbers, '{path}' cannot be read as one: {error}.") from None
    require_format(found.ndim == ndim and found.dtype.kind in "fiu", f"numbers of {ndim} dimensions", path, found.shape)
    return found


def _metadata(path: Path) -> dict[str, list[Any]]:
    if not path.exists():
        return {}
    parquet = require("pyarrow.parquet", "parquet")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"Expected metadata in Parquet, '{path}' cannot be read as such: {reason}.") from None
    return {name: table[name].to_pylist() for name in table.column_names}


def _listed(path: Path) -> list[str]:
    from modalign.core.files import read_json

    found = read_json(path, "a list of names") if path.exists() else []
    require_format(isinstance(found, list) and all(isinstance(name, str) for name in found), "a list of names", path)
    return found


def _classes(labels: list[Any], names: list[str], n: int, root: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    if not labels:
        return np.full(n, UNLABELED, dtype=np.int64), tuple(names)
    labels = [UNLABELED if label is None or label != label else label for label in labels]  # NaN of a data frame
    if all(isinstance(label, (int, float)) for label in labels):
        sound = all(label == int(label) and label < (len(names) or MOST_CLASSES) for label in labels)
        require_format(sound, f"labels as whole numbers below {len(names) or MOST_CLASSES}", root, max(labels))
        own = names or [str(k) for k in range(int(max(labels)) + 1)]
        return np.array(labels, dtype=np.int64), tuple(own)
    found = names or sorted({str(label) for label in labels if label != UNLABELED}, key=natural_key)
    index = {name: k for k, name in enumerate(found)} | {str(UNLABELED): UNLABELED}
    strange = next((label for label in labels if str(label) not in index), None)
    require_format(strange is None, f"labels that are among the {len(found)} classes", root, strange)
    return np.array([index[str(label)] for label in labels], dtype=np.int64), tuple(found)


def _unit(vectors: np.ndarray, root: Path) -> np.ndarray:
    finite = np.isfinite(vectors).all(axis=1)
    require_format(finite.all() and vectors.shape[1], "finite vectors", root, f"{(~finite).sum()} that are not")
    peak = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    vectors = vectors / np.where(peak == 0, 1, peak).astype(np.float64)  # squares neither overflow nor vanish
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
