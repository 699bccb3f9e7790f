"""GPUA on patches: one orthogonal map for a set of photos, from the patches most similar to each name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError, require_choice
from modalign.core.record import plain
from modalign.linalg.similarity import unit
from modalign.methods.gpua.gpua import GPUA

KINDS = ("vfm+clip", "vfm", "clip")
"""Mapped features: vision-only patches joined with those of the language space, or one of the two."""
TOP = 1024
DEFAULTS: dict[str, Any] = {"class_prior": "uniform", "semantic_weight": 0.9, "epsilon": 0.01}
"""Settings of GPUA on patches: the selection balances the categories, so shares must not be estimated."""
_IN_MEMORY = 2**28  # bytes of selected patches; more are mapped from a file while the map is learned


@dataclass(frozen=True, eq=False)
class PatchMap:
    """A learned map of patches into the space of the names.

    Attributes
    ----------
    weight : Tensor of shape (columns, d)
        W, of values that half precision has, so that saving changes nothing.
    kind : str
        One of :data:`KINDS`.
    record : dict
        Record of the fit, JSON values.
    """

    weight: Tensor
    kind: str
    record: dict[str, Any]

    def __call__(self, X: Tensor, Z: Tensor | None) -> Tensor:
        """Unit features (…, d) of patches: z' W with z' the concatenated spaces of the map, unit rows each."""
        return unit(joined(X, Z, self.kind) @ self.weight.to(X.device))


def joined(X: Tensor, Z: Tensor | None, kind: str) -> Tensor:
    """Return the mapped features of language patches X (…, d) and vision-only patches Z (…, D), unit rows of both."""
    if kind == "clip":
        return X
    assert Z is not None
    Z = Z.to(X.device)
    return Z if kind == "vfm" else torch.cat([Z, X], dim=-1)


class TopPatches:
    """The patches with the largest cosine to each category, of a stream, in bounded memory.

    Among equal cosines the patch that came first stays. Memory: K · top · (width + 6) numbers of 2 bytes. A patch that
    is among the best of several categories is held by each of them and comes out once.

    Parameters
    ----------
    categories : Tensor of shape (K, d)
        Unit rows.
    top : int
        Patches per category.
    width : int
        Numbers of a row that is kept.
    """

    def __init__(self, categories: Tensor, top: int, width: int) -> None:
        K = len(categories)
        self.categories = categories
        self.n_rows = 0
        self._scores = torch.full((K, top), -torch.inf)
        self._ids = torch.full((K, top), torch.iinfo(torch.long).max)
        self._rows = torch.zeros(K, top, width, dtype=torch.float16)

    def add(self, X: Tensor, rows: Tensor) -> None:
        """Add patches: unit rows X (n, d) of the language space, and the values to keep of each, (n, width)."""
        K, top = self._scores.shape
        scores = (X @ self.categories.T.to(X.device)).T.cpu()
        ids = torch.arange(self.n_rows, self.n_rows + len(X))
        self.n_rows += len(X)
        hopeful = (scores > self._scores.min(dim=1, keepdim=True).values).any(dim=0).nonzero()[:, 0]
        if not len(hopeful):
            return
        scores, ids, rows = scores[:, hopeful], ids[hopeful], rows[hopeful.to(rows.device)].half().cpu()
        every_score = torch.cat([self._scores, scores], dim=1)
        every_id = torch.cat([self._ids, ids.expand(K, -1)], dim=1)
        by_id = every_id.argsort(dim=1, stable=True)
        order = every_score.gather(1, by_id).argsort(dim=1, descending=True, stable=True)
        chosen = torch.zeros_like(every_score, dtype=torch.bool)
        chosen.scatter_(1, by_id.gather(1, order[:, :top]), True)
        category, place = (~chosen[:, :top]).nonzero().T
        source, new = chosen[:, top:].nonzero().T
        assert torch.equal(category, source)
        self._scores[category, place], self._ids[category, place] = scores[source, new], ids[new]
        self._rows[category, place] = rows[new]

    def collected(self) -> tuple[Tensor, Tensor, Tensor]:
        """Different patches in the order of appearance: ids (n,), rows (n, width), and (K, top) the place of each in
        them, −1 where a category has fewer."""
        held = self._scores.isfinite()
        ids, inverse = self._ids[held].unique(return_inverse=True)
        rows = torch.empty(len(ids), self._rows.shape[2], dtype=torch.float16)
        rows[inverse] = self._rows[held]
        places = torch.full(held.shape, -1)
        places[held] = inverse
        return ids, rows, places


class AllPatches:
    """All patches of a stream, each a row of every category, as :class:`TopPatches` without a limit."""

    def __init__(self, categories: Tensor) -> None:
        self.categories = categories
        self.n_rows = 0
        self._rows: list[Tensor] = []

    def add(self, X: Tensor, rows: Tensor) -> None:
        """Keep more patches."""
        self.n_rows += len(X)
        self._rows.append(rows.half().cpu())

    def collected(self) -> tuple[Tensor, Tensor, Tensor]:
        """As of :class:`TopPatches`."""
        ids = torch.arange(self.n_rows)
        return ids, torch.cat(self._rows), ids.expand(len(self.categories), -1)


Selection = TopPatches | AllPatches


def fit_patch_map(
    selection: Selection, widths: tuple[int, int], kind: str, names: tuple[str, ...], **parameters: Any
) -> PatchMap:
    """The map of GPUA from the selected patches.

    Parameters
    ----------
    selection : TopPatches or AllPatches
        Rows of vision-only features, D columns, followed by language features, d columns.
    widths : tuple of (int, int)
        D and d; D = 0 without vision-only features.
    kind : str
        One of :data:`KINDS`.
    names : tuple of str
        Of the categories.
    parameters : object
        Of :class:`~modalign.GPUA`, in place of :data:`DEFAULTS`.

    Raises
    ------
    InputError
        Fewer patches than categories.
    """
    require_choice("z", kind, KINDS)
    _, rows, places = selection.collected()
    K = len(names)
    if len(rows) < K:
        raise InputError(
            f"Expected at least as many patches as categories ({K}) to learn a map from, got {len(rows)}; give more "
            "photos."
        )
    Z, X = rows.split(list(widths), dim=1)
    spaces = {"vfm+clip": list(widths), "vfm": [widths[0]], "clip": [widths[1]]}[kind]
    gpua = GPUA(**DEFAULTS, spaces=spaces, random_state=0).set_params(**parameters)
    with tempfile.TemporaryDirectory(prefix="modalign-patches-") as folder:
        visual = _array(joined(X, Z, kind), Path(folder, "visual.npy"))
        anchor = None if kind == "clip" else _array(X, Path(folder, "anchor.npy"))
        gpua.fit(visual, text=selection.categories.cpu().numpy(), clip_features=anchor)
        del visual, anchor
    weight = gpua.weight_.detach().cpu().half().float()
    report = selection_report(selection, X.float(), places, names)
    settings = {name: value for name, value in gpua.get_params().items() if name != "memory"}
    record = {**report, "gpua": plain(settings), "diagnosis": plain(gpua.diagnosis_)}
    return PatchMap(weight, kind, record)


def selection_report(selection: Selection, X: Tensor, places: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the rows per category, the share that is closer to another category, and the share selected twice.

    ``doubtful`` are the categories most of whose patches are closer to another one: they may not occur in the photos.
    """
    best = (X @ selection.categories.cpu().T).argmax(dim=1)
    held = places >= 0
    own = torch.arange(len(names))[:, None]
    astray = ((best[places.clamp_min(0)] != own) & held).sum(dim=1) / held.sum(dim=1).clamp_min(1)
    counts = held.sum(dim=1)
    return {
        "patches_seen": selection.n_rows,
        "patches": len(X),
        "rows": dict(zip(names, counts.tolist(), strict=True)),
        "prefer_another": {name: round(share, 4) for name, share in zip(names, astray.tolist(), strict=True)},
        "duplicates": round(1 - len(X) / max(int(counts.sum()), 1), 4),
        "doubtful": [name for name, share in zip(names, astray.tolist(), strict=True) if share > 0.5],
    }


def _array(rows: Tensor, path: Path) -> np.ndarray:
    """Return the rows for GPUA; if there are many, in half precision in a file."""
    if rows.nbytes < _IN_MEMORY:
        return rows.float().numpy()
    np.save(path, rows.numpy())
    return np.load(path, mmap_mode="r")
