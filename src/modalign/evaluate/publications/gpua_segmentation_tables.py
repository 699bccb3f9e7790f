"""GPUA's tables of segmentation as printed."""

from __future__ import annotations

from modalign.evaluate.publications.printed_block import PrintedBlock

_CLIP, _BOTH, _OTHER = "CLIP ViT-B/16", "DINOv3 and CLIP ViT-B/16", "not stated"
_THREE = "ade20k voc20 context59"
_FIVE = f"{_THREE} cityscapes coco_stuff164k"


def _segmentation(table: str, backbone: str, datasets: str, rows: str) -> PrintedBlock:
    return PrintedBlock(table, "segmentation", backbone, {"dataset": datasets}, rows, {"metric": "mIoU"})


TABLES = (
    _segmentation("Table 2", _CLIP, _THREE, """
        CLIP: 3.1 49.1 11.1
        MaskCLIP: 11.9 54.2 22.2
        SCLIP: 16.1 81.5 34.2
        SC-CLIP: 20.1 84.3 40.1"""),
    _segmentation("Table 2", _BOTH, _THREE, """
        MaskCLIP + GPUA: 15.9 65.7 27.9
        SCLIP + GPUA: 19.1 87.8 36.3
        SC-CLIP + GPUA: 21.3 87.6 41.0"""),
    _segmentation("Table 2", _OTHER, _THREE, """
        ProxyCLIP: 19.7 83.0 37.2
        Talk2DINO: 21.1 87.1 39.8
        LPOSS+: 22.7 82.5 39.3"""),
    _segmentation("Table 8", _CLIP, _FIVE, "SC-CLIP: 20.1 84.3 40.1 41.0 26.9"),
    _segmentation("Table 8", _BOTH, _FIVE, "SC-CLIP + GPUA: 21.3 87.6 41.0 42.0 29.0"),
    _segmentation("Table 8", _OTHER, _FIVE, "Talk2DINO: 21.1 87.1 39.8 36.6 28.1"),
)  # fmt: skip

CAUTIONS = (
    (
        {"setting": "segmentation", "method": "MaskCLIP"},
        "agrees with neither common reading of MaskCLIP, so the gain of GPUA on it is not comparable",
    ),
    ({"setting": "segmentation", "method": "SCLIP", "dataset": "ade20k"}, "16.45 in the README of its code"),
    ({"setting": "segmentation", "method": "SCLIP", "dataset": "context59"}, "34.46 in the README of its code"),
    ({"table": "Table 2", "method": "SC-CLIP + GPUA", "dataset": "ade20k"}, "LPOSS+ in the same table is higher"),
    (
        {"setting": "segmentation", "backbone": _BOTH},
        "training images, windows and class names of the map are not stated, and the code is not public",
    ),
)
