"""A segmentation data set on disk: the mean IoU of each kind of features, with the published one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modalign.core.errors import InputError, UnavailableError, argument, require_choice
from modalign.core.record import versions
from modalign.encoders.base import Encoder
from modalign.evaluate.masks.confusion_counts import ConfusionCounter
from modalign.evaluate.masks.iou import SegmentationScores
from modalign.evaluate.metrics import percent
from modalign.evaluate.publications.bench_commands import SEGMENTERS
from modalign.evaluate.published import Published, published
from modalign.segmentation.segmenter import Segmenter
from modalign.segmentation.sets.scene_pairs import ScenePairs, open_segmentation_set, training_photos
from modalign.segmentation.sets.segmentation_sets import segmentation_set

_PUBLISHED_ENCODER = "clip-vit-base-patch16"


@dataclass(frozen=True, eq=False)
class SetRow:
    """One line of the table: a method on a data set, measured or not.

    Attributes
    ----------
    dataset, method : str
        ``method`` as published tables write it.
    scores : SegmentationScores, default=None
        None where it was not measured.
    published : Published, default=None
        The number of a paper, if there is one.
    reason : str
        Reason why it was not measured, or why the two numbers are not comparable.
    settings : mapping
        Settings of the measurement.
    """

    dataset: str
    method: str
    scores: SegmentationScores | None
    published: Published | None
    reason: str
    settings: dict[str, Any]

    @property
    def cells(self) -> list[str]:
        """Cells as text, in the order of :data:`HEADER`."""
        ours, interval = "–", ""
        if self.scores is not None:
            ours, interval = percent(self.scores.miou), " to ".join(map(percent, self.scores.interval()))
        paper = self.published
        value = "–" if paper is None else f"{paper.value:.1f} ({paper.paper}, {paper.table})"
        notes = [self.reason, "" if paper is None else paper.caution]
        return [self.dataset, self.method, ours, interval, value, "; ".join(filter(None, notes))]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "dataset": self.dataset,
            "method": self.method,
            "scores": None if self.scores is None else self.scores.as_dict(),
            "published": None if self.published is None else vars(self.published),
            "reason": self.reason,
            "settings": self.settings,
        }


HEADER = ["data set", "method", "mIoU, %", "95 % interval", "published", "note"]


def run_segmentation_set(
    name: str,
    root: str | Path,
    *,
    encoder: str | Path | Encoder,
    features: Sequence[str] = ("scclip",),
    gpua: Literal["without", "with", "both"] = "without",
    vfm: str | Path | Encoder | None = None,
    strict: bool = True,
    device: str = "auto",
    **settings: Any,
) -> list[SetRow]:
    """Mean IoU on the validation photos of a data set, for several kinds of features, with the map of GPUA or without.

    Resize rule and thresholds are those of each method's public code on this set. The map is learned from the training
    photos, without their masks. Interval: images resampled; see
    :meth:`~modalign.evaluate.masks.iou.SegmentationScores.interval`.

    Parameters
    ----------
    name : str
        See :func:`~modalign.segmentation.sets.segmentation_sets.segmentation_set`.
    root : str or Path
        The data root.
    encoder, device : object
        See :class:`~modalign.Segmenter`.
    features : sequence of str, default=("scclip",)
        Kinds of features, a line each.
    gpua : str, default="without"
        ``"with"`` the map, ``"without"``, or ``"both"``.
    vfm : str, Path or Encoder, default=None
        The vision-only encoder of the map, and of ``"proxy"``.
    strict : bool, default=True
        Raise if images or weights are missing. False: return a row without a score.
    **settings
        Further arguments of :class:`~modalign.Segmenter`, which replace those of the set.

    Returns
    -------
    rows : list of SetRow
        A row per method.

    Raises
    ------
    InputError
        Names that do not exist, or, with ``strict``, images that are not there.
    UnavailableError
        With ``strict``, weights that are not there.
    """
    require_choice("gpua", gpua, ("without", "with", "both"))
    row = segmentation_set(name)
    mapped = {"without": (False,), "with": (True,), "both": (False, True)}[gpua]
    if True in mapped and vfm is None:
        raise InputError(f"Expected {argument('vfm')}, a vision-only encoder for the map of GPUA, got none.")
    rows = []
    for kind in features:
        for with_map in mapped:
            method = SEGMENTERS.get(kind, kind) + (" + GPUA" if with_map else "")
            paper = next(iter(published(setting="segmentation", dataset=row.name, method=method)), None)
            try:
                pairs = open_segmentation_set(name, root)
                own = {**row.settings(kind), **settings}
                own |= {"vfm": vfm} if kind == "proxy" else {}
                segmenter = Segmenter(encoder, row.classes, features=kind, device=device, **own)
                if with_map:
                    segmenter.fit_map(training_photos(name, root), vfm=vfm, device=device)
                scores = score_segmenter(segmenter, pairs)
            except (InputError, UnavailableError) as error:
                if strict:
                    raise
                rows.append(SetRow(row.title, method, None, paper, str(error), {}))
                continue
            reason = "; ".join(_differences(segmenter, pairs, paper))
            record = segmenter.settings | {"n_images": len(pairs), "versions": versions()}
            rows.append(SetRow(row.title, method, scores, paper, reason, record))
    return rows


def score_segmenter(segmenter: Segmenter, pairs: ScenePairs) -> SegmentationScores:
    """Segment the photos of a data set and count their pixels; the masks are not kept.

    Raises
    ------
    InputError
        A photo cannot be decoded, or a mask does not fit; a mean over fewer images would not be comparable.
    """
    counter = ConfusionCounter(segmenter.names)
    results = segmenter.segment(pairs.items)
    place = {file: i for i, file in enumerate(pairs.items.ids)}
    for result in results:
        counter.add(result.labels, pairs.truth(place[result.file]), result.file)
    if results.quarantined:
        first = results.quarantined[0]
        raise InputError(
            f"Expected all photos of {pairs.row.title}, {len(results.quarantined)} cannot be used, such as "
            f"'{first.id}' ({first.reason}); copy the data set again."
        )
    return counter.scores()


def _differences(segmenter: Segmenter, pairs: ScenePairs, paper: Published | None) -> Iterator[str]:
    """Why a measured number is not comparable with the published one."""
    if paper is None:
        return
    if _PUBLISHED_ENCODER not in segmenter.encoder.spec.name:
        yield "not comparable: the published number is of CLIP ViT-B/16"
    yield "class names are our own"
    if len(pairs) != pairs.row.n_images:
        yield f"{len(pairs):,} of {pairs.row.n_images:,} images"
