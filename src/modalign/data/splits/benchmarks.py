"""Table of the benchmark data sets: layout on disk, sizes and sources.

Folder names and split files are CoOp's, so that an existing benchmark folder works as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modalign.core.errors import UnknownNameError
from modalign.data.text.templates import TEMPLATES

ListName = Literal["coop", "vissl", "own"]


@dataclass(frozen=True)
class Dataset:
    """One benchmark data set.

    Attributes
    ----------
    name : str
        Name in this library.
    n_classes, n_test : int
        Size of the class list and of the usual test list.
    folder : str
        Folder below the data root.
    images : str
        Folder of the images inside it.
    layout : {"coop", "imagenet", "aircraft", "cub", "folders"}
        Format: CoOp's split file, ImageNet's folders, own lists, or class folders.
    lists : str
        File that defines train and test images, if the folders do not.
    license : str
        License of the data set; "not stated" if its authors give none.
    source : str
        Where to download it.
    coop : tuple of (int, int) or None, default=None
        Numbers of train and validation images in CoOp's split; None if there is none.
    vissl : tuple of (int, int) or None, default=None
        Numbers of train and test images in VISSL's lists, which FAIR uses; None if there are none.
    train : float, default=0.8
        For class folders without train and test, the share of each class used for training.
    """

    name: str
    n_classes: int
    n_test: int
    folder: str
    images: str
    layout: Literal["coop", "imagenet", "aircraft", "cub", "folders"]
    lists: str
    license: str
    source: str
    coop: tuple[int, int] | None = None
    vissl: tuple[int, int] | None = None
    train: float = 0.8

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates of the data set."""
        return TEMPLATES[self.name]

    def test_size(self, lists: ListName = "coop") -> int | None:
        """Return the number of test images of a split (``"own"`` is that of :func:`open_dataset`), or None."""
        return self.n_test if lists != "vissl" else self.vissl and self.vissl[1]


_RESEARCH = "non-commercial research and education"
_COPYRIGHT = "not stated; photos by their owners"

DATASETS: tuple[Dataset, ...] = (
    Dataset("imagenet", 1000, 50_000, "imagenet", "images", "imagenet", "classnames.txt", _RESEARCH,
            "image-net.org, ILSVRC 2012, after registration"),
    Dataset("caltech101", 100, 2465, "caltech-101", "101_ObjectCategories", "coop", "split_zhou_Caltech101.json",
            "CC BY 4.0", "CaltechDATA, Caltech 101",
            coop=(4128, 1649), vissl=(4403, 6645)),
    Dataset("oxford_pets", 37, 3669, "oxford_pets", "images", "coop", "split_zhou_OxfordPets.json",
            "CC BY-SA 4.0", "Visual Geometry Group, Oxford: The Oxford-IIIT Pet Dataset",
            coop=(2944, 736), vissl=(3680, 3669)),
    Dataset("stanford_cars", 196, 8041, "stanford_cars", "", "coop", "split_zhou_StanfordCars.json",
            "not stated; for research", "Stanford AI Lab: Cars Dataset",
            coop=(6509, 1635), vissl=(8144, 8041)),
    Dataset("oxford_flowers", 102, 2463, "oxford_flowers", "jpg", "coop", "split_zhou_OxfordFlowers.json",
            "not stated", "Visual Geometry Group, Oxford: 102 Category Flower Dataset",
            coop=(4093, 1633), vissl=(4093, 2463)),
    Dataset("food101", 101, 30_300, "food-101", "images", "coop", "split_zhou_Food101.json",
            _COPYRIGHT, "ETH Zurich, Computer Vision Lab: Food-101",
            coop=(50_500, 20_200), vissl=(75_750, 25_250)),
    Dataset("fgvc_aircraft", 100, 3333, "fgvc_aircraft", "images", "aircraft", "images_variant_test.txt",
            "non-commercial research", "Visual Geometry Group, Oxford: FGVC-Aircraft, 2013b",
            coop=(3334, 3333)),
    Dataset("sun397", 397, 19_850, "sun397", "SUN397", "coop", "split_zhou_SUN397.json",
            "not stated; for research", "Princeton and MIT: SUN Database, SUN397",
            coop=(15_880, 3970), vissl=(76_129, 21_758)),
    Dataset("dtd", 47, 1692, "dtd", "images", "coop", "split_zhou_DescribableTextures.json",
            "for research", "Visual Geometry Group, Oxford: Describable Textures Dataset",
            coop=(2820, 1128), vissl=(3760, 1880)),
    Dataset("eurosat", 10, 8100, "eurosat", "2750", "coop", "split_zhou_EuroSAT.json",
            "MIT", "DFKI: EuroSAT, the RGB version",
            coop=(13_500, 5400), vissl=(10_000, 5000)),
    Dataset("ucf101", 101, 3783, "ucf101", "UCF-101-midframes", "coop", "split_zhou_UCF101.json",
            "not stated", "University of Central Florida: UCF101, the middle frame of every video",
            coop=(7639, 1898), vissl=(9537, 3783)),
    Dataset("imagenetv2", 1000, 10_000, "imagenetv2", "imagenetv2-matched-frequency-format-val", "imagenet",
            "classnames.txt", "MIT for the collection; photos by their owners", "ImageNetV2, matched frequency"),
    Dataset("imagenet_sketch", 1000, 50_889, "imagenet-sketch", "images", "imagenet", "classnames.txt",
            _COPYRIGHT, "ImageNet-Sketch (Wang et al. 2019)"),
    Dataset("imagenet_a", 200, 7500, "imagenet-adversarial", "imagenet-a", "imagenet", "classnames.txt",
            "MIT for the collection; photos by their owners", "Natural Adversarial Examples (Hendrycks et al. 2021)"),
    Dataset("imagenet_r", 200, 30_000, "imagenet-rendition", "imagenet-r", "imagenet", "classnames.txt",
            "MIT for the collection; pictures by their owners", "ImageNet-R (Hendrycks et al. 2021)"),
    Dataset("cifar10", 10, 10_000, "cifar10", "", "folders", "",
            "not stated", "University of Toronto: CIFAR-10, saved as train/ and test/ with a folder per class",
            vissl=(50_000, 10_000)),
    Dataset("cifar100", 100, 10_000, "cifar100", "", "folders", "",
            "not stated", "University of Toronto: CIFAR-100, saved as train/ and test/ with a folder per class",
            vissl=(50_000, 10_000)),
    Dataset("cub", 200, 5794, "CUB_200_2011", "images", "cub", "train_test_split.txt",
            _RESEARCH, "Caltech: Caltech-UCSD Birds-200-2011",
            vissl=(5994, 5794)),
    Dataset("resisc45", 45, 6300, "resisc45", "", "folders", "",
            "not stated", "Northwestern Polytechnical University: NWPU-RESISC45", vissl=(25_200, 6300), train=0.8),
    Dataset("aid", 30, 3000, "aid", "", "folders", "",
            "not stated", "Wuhan University: AID, aerial image data set", vissl=(7000, 3000), train=0.7),
)  # fmt: skip

_ALIASES = {
    "pets": "oxford_pets", "cars": "stanford_cars", "flowers": "oxford_flowers", "flowers102": "oxford_flowers",
    "aircraft": "fgvc_aircraft", "sun": "sun397", "describabletextures": "dtd", "ucf": "ucf101", "food": "food101",
    "caltech": "caltech101", "imagenetadversarial": "imagenet_a", "imagenetrendition": "imagenet_r",
    "cub200": "cub", "cub2002011": "cub", "nwpuresisc45": "resisc45",
}  # fmt: skip


def find_dataset(name: str) -> Dataset | None:
    """Return the entry of a data set by its name in this library or in the literature, or None."""
    plain = re.sub(r"[\W_]", "", name).casefold()
    by_name = {re.sub(r"\W|_", "", row.name): row for row in DATASETS}
    return by_name.get(plain) or by_name.get(re.sub("_", "", _ALIASES.get(plain, "")))


def in_sentences(name: str, class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names as the sentences of a data set have them: of ImageNet without the number of a repeated name.

    Parameters
    ----------
    name : str
        Of the data set.
    class_names : sequence of str
        Distinct names, such as ``"crane (2)"``.

    Examples
    --------
    >>> from modalign.data.splits.benchmarks import in_sentences
    >>> in_sentences("imagenet_a", ["owl", "crane (2)"])
    ('owl', 'crane')
    """
    row = find_dataset(name)
    if row is None or row.layout != "imagenet":
        return tuple(class_names)
    return tuple(re.sub(r" \(\d+\)$", "", one) for one in class_names)


def dataset(name: str) -> Dataset:
    """Return the entry of a data set by its name here or in the literature, such as ``OxfordPets``.

    Raises
    ------
    UnknownNameError
        No data set has the name; the message suggests the nearest one.
    """
    row = find_dataset(name)
    if row is None:
        raise UnknownNameError("data set", name, (row.name for row in DATASETS))
    return row
