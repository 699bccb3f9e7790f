"""The images that a printed number was measured on: which lists, and how many test images."""

from __future__ import annotations

from modalign.data.splits.benchmarks import ListName, find_dataset

_LISTS: dict[str, ListName] = {"cmm": "coop", "align": "coop", "dam": "coop", "fair": "vissl", "gpua": "coop"}


def images_tested(paper: str, setting: str, dataset: str, metric: str) -> tuple[ListName, int | None]:
    """The lists of a printed number and its number of test images.

    The number is None where several data sets are averaged, where half of the classes are tested, and where the metric
    is none of images.
    """
    lists: ListName = "own" if setting == "segmentation" or (setting == "cost" and metric != "top-1") else _LISTS[paper]
    row = find_dataset(dataset)
    if row is None or lists == "own" or metric != "top-1":
        return lists, None
    return lists, row.test_size(lists)
