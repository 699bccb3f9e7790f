"""Segmentation part of the demonstration: mosaics of textures, and digits, with exact masks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from modalign.data.mosaics import SENTENCES, SIDE, Scenes, digit_scenes, texture_scenes
from modalign.encoders.base import Encoder
from modalign.evaluate.masks.confusion_counts import segmentation_scores
from modalign.evaluate.masks.iou import SegmentationScores
from modalign.evaluate.metrics import percent
from modalign.report.masks.mask_columns import MaskColumns, MaskRow
from modalign.report.masks.mask_evaluation import SHOWN, evenly_spaced
from modalign.report.page import Page
from modalign.segmentation.mask_png import class_colors
from modalign.segmentation.segmented import Segmentation
from modalign.segmentation.segmenter import Segmenter

SCENES, LEARNED_FROM = 12, 24
STRIDE, LEARNING_STRIDE = 8, 16  # pixels; the patches of the embedded pair are 8 pixels wide
OBJECTS = "maskclip"  # features; the path by which tiny-scenes was trained


def add_segmentation(page: Page, encoder: Encoder, vfm: Encoder) -> tuple[SegmentationScores, SegmentationScores]:
    """Segment mosaics of textures by their names, without a map and with one that is learned without masks.

    Parameters
    ----------
    page : Page
        Gets a section with four scenes, evenly spaced from the largest loss by the map to the largest gain.
    encoder : Encoder
        Vision-language encoder.
    vfm : Encoder
        Vision-only encoder.

    Returns
    -------
    tuple of (SegmentationScores, SegmentationScores)
        Plain, mapped : SegmentationScores.
    """
    scenes, others = texture_scenes(0, SCENES), texture_scenes(1000, LEARNED_FROM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the network is small, and doubts about single classes
        segmenter = Segmenter(
            encoder, scenes.names, features="scclip", templates=SENTENCES, short_side=SIDE, stride=STRIDE
        )
        plain, before = _segmented(scenes, segmenter.segment(scenes.pictures))
        segmenter.fit_map(others.pictures, vfm=vfm, stride=LEARNING_STRIDE)
        mapped, after = _segmented(scenes, segmenter.segment(scenes.pictures))
    low, high = before.interval()
    page.section(
        "Masks from class names",
        f"The same encoder segments {SCENES} mosaics by the names of {len(scenes.names)} textures, with features of "
        f"SC-CLIP. Its mean IoU is {percent(before.miou)} % (95 % interval {percent(low)} to {percent(high)} %), and "
        f"{percent(after.miou)} % with the map of GPUA, learned from {LEARNED_FROM} other scenes without masks; "
        f"labels at random have about {percent(_by_guessing(scenes))} %.",
        blocks=_columns(scenes, {"SC-CLIP": plain, "SC-CLIP + GPUA": mapped}, (before, after)),
    )
    return before, after


def add_objects(page: Page, usual: Encoder, encoder: Encoder) -> tuple[SegmentationScores, SegmentationScores]:
    """Segment scenes of real digits by their names, with two encoders.

    Parameters
    ----------
    page : Page
        Gets a section with four scenes, evenly spaced from the smallest difference of the encoders to the largest.
    usual, encoder : Encoder
        Vision-language encoders; the patches of the second know objects.

    Returns
    -------
    tuple of (SegmentationScores, SegmentationScores)
        Of the two encoders.
    """
    scenes = digit_scenes(0, SCENES)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in (usual, encoder):
            segmenter = Segmenter(
                one, scenes.names, features=OBJECTS, templates=SENTENCES, short_side=SIDE, stride=STRIDE
            )
            found.append(_segmented(scenes, segmenter.segment(scenes.pictures)))
    (plain, before), (better, after) = found
    low, high = after.interval()
    page.section(
        "Masks of objects",
        f"{SCENES} scenes of four real digits each, segmented by the names of the digits; the ground between them has "
        f"no class, and labels there do not count. The patches of {usual.name} distinguish textures but not objects: "
        f"mean IoU {percent(before.miou)} %, where labels at random have about {percent(_by_guessing(scenes))} %. "
        f"{encoder.name} has the same text tower, and its image tower was trained further on drawn scenes: "
        f"{percent(after.miou)} % (95 % interval {percent(low)} to {percent(high)} %).",
        blocks=_columns(scenes, {usual.name: plain, encoder.name: better}, (before, after)),
    )
    return before, after


def _by_guessing(scenes: Scenes) -> float:
    """IoU of equal shares drawn at random: (1/K) / (2 − 1/K)."""
    return 1 / (2 * len(scenes.names) - 1)


def _columns(
    scenes: Scenes, maps: dict[str, list[np.ndarray]], scores: tuple[SegmentationScores, SegmentationScores]
) -> MaskColumns:
    """Two segmentations and the truth of some scenes, from the largest loss to the largest gain."""
    before, after = (found.image_miou for found in scores)
    (one, first), (other, second) = maps.items()
    rows = [
        MaskRow(
            f"scene {i + 1}: mean IoU {percent(before[i])} % by {one}, {percent(after[i])} % by {other}",
            [first[i], second[i], scenes.masks[i]],
            scenes.pictures[i],
        )
        for i in evenly_spaced(after - before, SHOWN)
    ]
    return MaskColumns([*maps, "truth"], rows, scenes.names, class_colors(len(scenes.names)))


def _segmented(scenes: Scenes, results: Iterable[Segmentation]) -> tuple[list[np.ndarray], SegmentationScores]:
    """Return the label maps of the scenes and their agreement with the masks."""
    labels = [result.labels for result in results]
    return labels, segmentation_scores(labels, list(scenes.masks), n_classes=len(scenes.names), names=scenes.names)
