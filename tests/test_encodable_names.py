"""A class name that UTF-8 cannot hold is refused where it enters, before anything is computed or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modalign import GDA, ClassText, Features, InputError, Items, adapt, load_items, segment
from modalign.core.label_matrix import label_matrix
from modalign.data.digits import load_digits
from modalign.data.label_sets import load_label_sets
from modalign.model.multi_label import adapt_multi_label

BAD = "otter \ud800"
X = np.eye(4, dtype=np.float32)
PICTURES = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]


def digits() -> Items:
    return load_digits().select(range(20)).unlabeled()


ENTRANCES: dict[str, Callable[[], Any]] = {
    "features": lambda: Features(X, labels=[0, 1, 0, 1], class_names=["cat", BAD]),
    "class text": lambda: ClassText(X, class_names=["a", "b", "c", BAD]),
    "names of text": lambda: GDA().fit(X, [0, 1, 2, 3], text=X, classes=["a", "b", "c", BAD]),
    "labels of vectors": lambda: GDA().fit(X, ["cat", BAD, "cat", BAD]),
    "labels of images": lambda: load_items(PICTURES, labels=["cat", BAD]),
    "the names of all classes": lambda: load_items(PICTURES, classes=["cat", BAD]),
    "a mapping of names": lambda: load_items(PICTURES, classes={"cat": BAD}),
    "a matrix of labels": lambda: label_matrix(np.eye(2, dtype=int), ["cat", BAD]),
    "sets of labels": lambda: load_label_sets(PICTURES, labels=[{"cat"}, {BAD}]),
    "a fit": lambda: adapt(digits(), classes=["cat", BAD], unlabeled=True),
    "a fit of several classes": lambda: adapt_multi_label(PICTURES, classes=["cat", BAD]),
    "a segmentation": lambda: segment(PICTURES, ["cat", BAD], encoder="tiny"),
    "the background": lambda: segment(PICTURES, ["cat", "dog"], background=["sky", BAD], encoder="tiny"),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_half_of_a_surrogate_pair_is_refused(entrance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"names that UTF-8 can hold in .*'otter \\ud800'.*rename the class"):
        ENTRANCES[entrance]()
    assert not list(tmp_path.iterdir())
