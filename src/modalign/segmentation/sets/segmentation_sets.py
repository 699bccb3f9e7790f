"""The benchmark data sets of open-vocabulary segmentation as one table.

Sizes, label rules, resize rules and thresholds are those of the public code of SCLIP, SC-CLIP and ProxyCLIP. The class
names are those of this library. The result depends on them, so a published number is comparable only for equal names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from modalign.core.errors import UnknownNameError
from modalign.segmentation.sets.label_maps import Rule

BACKGROUND = (
    "sky, cloud, wall, ceiling, floor, ground, road, pavement, grass, tree, bush, water, sea, river, sand, snow, "
    "mountain, rock, building, house, fence, window, door, curtain, shelf, railroad track"
)
"""Names of the background class of VOC21 and COCO-Object."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds: logit scale, least probability, least share of the foreground (None: off)."""

    scale: float = 40.0
    prob: float = 0.0
    area: float | None = None


@dataclass(frozen=True)
class SegmentationSet:
    """One data set.

    Attributes
    ----------
    name : str
        Name in this library.
    title : str
        Name in tables.
    n_classes, n_images : int
        Classes, the background included, and images of the usual validation list.
    names : str
        File of class names, without the background.
    images : str
        Path of an image below the data root. ``{part}`` is the validation or training folder, ``{id}`` the name in
        the list or, without a list, any; ``{group}`` a folder between.
    truths : tuple of (str, Rule)
        Path of its mask, in all published forms, each with its rule for
        :func:`~modalign.segmentation.sets.label_maps.apply_rule`.
    lists : str
        File with a name per line for each part; empty if the folders define the parts.
    parts : tuple of (str, str)
        Names of the validation and the training part.
    license, source : str
        License, and where to get the data set.
    background : str
        Names of class 0 if it is the background; empty if there is none.
    short_side : int
        The photo is resized to fit into (2048, this), in pixels.
    short_sides : mapping
        Method → another value in its public code.
    thresholds : mapping
        Method → thresholds. Methods that are not named have the defaults.
    proxy_window : int
        Side of the windows of ProxyCLIP's public code, which are 112 pixels apart; others have 224.
    """

    name: str
    title: str
    n_classes: int
    n_images: int
    names: str
    images: str
    truths: tuple[tuple[str, Rule], ...]
    lists: str
    parts: tuple[str, str]
    license: str
    source: str
    background: str = ""
    short_side: int = 336
    short_sides: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    proxy_window: int = 336

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The names of every class but the background, in label order."""
        text = files("modalign.segmentation.sets").joinpath(f"names/{self.names}.txt").read_text(encoding="utf-8")
        lines = text.splitlines()[: self.n_classes - bool(self.background)]
        return tuple(tuple(line.split(", ")) for line in lines)

    def settings(self, features: str) -> dict[str, Any]:
        """Arguments of :class:`~modalign.Segmenter` with which the public code of a method runs on this set."""
        own = self.thresholds.get(features, Thresholds())
        return {
            "background": tuple(self.background.split(", ")) if self.background else (),
            "short_side": self.short_sides.get(features, self.short_side),
            "logit_scale": own.scale,
            "prob_threshold": own.prob,
            "area_threshold": own.area,
            **({"window": self.proxy_window, "stride": 112} if features == "proxy" else {}),
        }


_VOC = "VOCdevkit/VOC2012/JPEGImages/{id}.jpg"
_VOC_MASKS = "VOCdevkit/VOC2012/SegmentationClass/{id}.png"
_VOC_LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/{part}.txt"
_CONTEXT = "VOCdevkit/VOC2010/SegmentationClassContext/{id}.png"
_CONTEXT_LIST = "VOCdevkit/VOC2010/ImageSets/SegmentationContext/{part}.txt"
_FLICKR = "not stated; photos by their owners, under Flickr's terms"
_VOC_SOURCE = "host.robots.ox.ac.uk/pascal/VOC, VOC2012 train/val"
_CONTEXT_SOURCE = (
    "cs.stanford.edu/~roozbeh/pascal-context, with the photos of VOC2010; mmsegmentation's tools/dataset_converters/"
    "pascal_context.py makes the masks"
)
_COCO = "images/{part}/{id}.jpg"
_COCO_SOURCE = "cocodataset.org (val2017) and github.com/nightrome/cocostuff (stuffthingmaps_trainval2017)"
_COCO_LICENSE = "CC BY 4.0 for the annotations; photos by their owners, under Flickr's terms"

SEGMENTATION_SETS: tuple[SegmentationSet, ...] = (
    SegmentationSet(
        "voc20", "VOC20", 20, 1449, "voc20", _VOC, ((_VOC_MASKS, "zero_ignored"),), _VOC_LIST, ("val", "train"),
        _FLICKR, _VOC_SOURCE,
    ),
    SegmentationSet(
        "voc21", "VOC21", 21, 1449, "voc20", _VOC, ((_VOC_MASKS, "plain"),), _VOC_LIST, ("val", "train"), _FLICKR,
        _VOC_SOURCE, BACKGROUND, thresholds={"sclip": Thresholds(65, 0.1, 0.1), "scclip": Thresholds(50, 0.15, 0.1),
                                "proxy": Thresholds(prob=0.2)},
    ),
    SegmentationSet(
        "context59", "Context59", 59, 5104, "context59", "VOCdevkit/VOC2010/JPEGImages/{id}.jpg",
        ((_CONTEXT, "zero_ignored"),), _CONTEXT_LIST, ("val", "train"), _FLICKR, _CONTEXT_SOURCE,
    ),
    SegmentationSet(
        "context60", "Context60", 60, 5104, "context59", "VOCdevkit/VOC2010/JPEGImages/{id}.jpg",
        ((_CONTEXT, "plain"),), _CONTEXT_LIST, ("val", "train"), _FLICKR, _CONTEXT_SOURCE, "background",
        thresholds={"sclip": Thresholds(50, 0.1), "scclip": Thresholds(40, 0.15), "proxy": Thresholds(prob=0.15)},
    ),
    SegmentationSet(
        "ade20k", "ADE20K", 150, 2000, "ade20k", "ADEChallengeData2016/images/{part}/{id}.jpg",
        (("ADEChallengeData2016/annotations/{part}/{id}.png", "zero_ignored"),), "", ("validation", "training"),
        "non-commercial research and education", "sceneparsing.csail.mit.edu, ADEChallengeData2016",
        short_sides={"proxy": 448},
    ),
    SegmentationSet(
        "cityscapes", "Cityscapes", 19, 500, "cityscapes", "leftImg8bit/{part}/{group}/{id}_leftImg8bit.png",
        (("gtFine/{part}/{group}/{id}_gtFine_labelTrainIds.png", "plain"),
         ("gtFine/{part}/{group}/{id}_gtFine_labelIds.png", "cityscapes_ids")), "", ("val", "train"),
        "non-commercial research, after registration", "cityscapes-dataset.com, leftImg8bit and gtFine",
        short_side=560, short_sides={"proxy": 448}, proxy_window=224,
    ),
    SegmentationSet(
        "coco_stuff164k", "COCO-Stuff164k", 171, 5000, "coco_stuff164k", _COCO,
        (("annotations/{part}/{id}_labelTrainIds.png", "plain"), ("annotations/{part}/{id}.png", "stuff_ids")), "",
        ("val2017", "train2017"), _COCO_LICENSE, _COCO_SOURCE, short_sides={"sclip": 448},
    ),
    SegmentationSet(
        "coco_object", "COCO-Object", 81, 5000, "coco_stuff164k", _COCO,
        (("annotations/{part}/{id}_instanceTrainIds.png", "plain"), ("annotations/{part}/{id}.png", "object_ids")), "",
        ("val2017", "train2017"), _COCO_LICENSE, _COCO_SOURCE, BACKGROUND,
        thresholds={"sclip": Thresholds(50, 0.1), "scclip": Thresholds(55, 0.35), "proxy": Thresholds(prob=0.25)},
    ),
)  # fmt: skip

_ALIASES = {"voc": "voc20", "ade": "ade20k", "stuff164k": "coco_stuff164k", "cocostuff": "coco_stuff164k",
            "cocoobj": "coco_object", "v20": "voc20", "c59": "context59"}  # fmt: skip


def segmentation_set(name: str) -> SegmentationSet:
    """The row of a data set, by its name here or in the literature (``VOC20``, ``ADE``, ``COCO-Stuff164k``).

    Raises
    ------
    UnknownNameError
        With the nearest known name.
    """
    plain = re.sub(r"[\W_]", "", name).casefold()
    rows = {re.sub("_", "", row.name): row for row in SEGMENTATION_SETS}
    row = rows.get(plain) or rows.get(re.sub("_", "", _ALIASES.get(plain, "")))
    if row is None:
        raise UnknownNameError("segmentation data set", name, (row.name for row in SEGMENTATION_SETS))
    return row
