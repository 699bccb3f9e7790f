"""Check of the segmentation data sets in a data root."""

from __future__ import annotations

from pathlib import Path

from modalign.core.errors import InputError
from modalign.data.splits.data_root import DataSetFound, require_data_root
from modalign.segmentation.sets.scene_pairs import open_segmentation_set
from modalign.segmentation.sets.segmentation_sets import SEGMENTATION_SETS, SegmentationSet


def inspect_segmentation_sets(root: str | Path) -> list[DataSetFound]:
    """Find the photos and masks of every segmentation data set below a folder; nothing is decoded.

    Raises
    ------
    InputError
        The folder does not exist.

    See Also
    --------
    modalign.data.splits.data_root.inspect_data_root : The same for data sets of classification.
    """
    require_data_root(root)
    return [_inspect(row, Path(root)) for row in SEGMENTATION_SETS]


def _inspect(row: SegmentationSet, root: Path) -> DataSetFound:
    photos = row.images.format(part=row.parts[0], group="", id="").rpartition("/")[0].rstrip("/")
    if not (root / photos).is_dir():
        return DataSetFound(row.name, "missing", f"no folder '{photos}'; get the data set from: {row.source}")
    try:
        pairs = open_segmentation_set(row.name, root)
    except InputError as error:
        return DataSetFound(row.name, "incomplete", str(error))
    found = f"{len(pairs):,} photos with masks"
    if len(pairs) == row.n_images:
        return DataSetFound(row.name, "ready", found)
    return DataSetFound(row.name, "incomplete", f"{found}; expected {row.n_images:,}")
