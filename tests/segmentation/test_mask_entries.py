"""A damaged ``masks.json`` is refused by its readers and made again by ``segment``."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modalign.cli import run
from modalign.segmentation.mask_entries import is_class_entry, is_image_entry

ODD: tuple[Any, ...] = (None, -1, True, 2**70, float("nan"), "", "\x1b[31m", [], {}, ["a"], "../../etc/passwd", "/etc")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "a.png")
    assert run(["segment", str(folder / "a.png"), "--classes", "one; two", "--out", str(folder / "out")]) == 0
    return folder


@pytest.mark.parametrize("place", ["classes", "images"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_evaluate_and_segment_never_end_in_a_traceback(masks: Path, place: str, value: Any) -> None:
    path = masks / "out" / "masks.json"
    whole = path.read_bytes()
    document = json.loads(whole)
    document[place][0] = value
    path.write_text(json.dumps(document))
    try:
        assert run(["evaluate", str(masks / "out"), "--truth", str(masks / "out")]) == 2
        assert run(["segment", str(masks / "a.png"), "--classes", "one; two", "--out", str(masks / "out")]) == 0
        assert json.loads(path.read_bytes()) == json.loads(whole)
    finally:
        path.write_bytes(whole)


def test_every_field_is_checked(masks: Path) -> None:
    document = json.loads((masks / "out" / "masks.json").read_bytes())
    image, named = document["images"][0], document["classes"][0]
    assert is_image_entry(image, 2)
    assert is_class_entry(named)
    assert not is_image_entry(image, 0)
    for field in ("file", "mask", "content", "width", "height", "none_share", "segments"):
        for value in (None, -1, [1], {}, "/etc" if field == "mask" else None):
            assert not is_image_entry(image | {field: value}, 2), (field, value)
    for field in ("class_id", "share", "mean_confidence"):
        changed = copy.deepcopy(image)
        changed["segments"][0][field] = -1
        assert not is_image_entry(changed, 2)
    for field in ("name", "names", "color"):
        assert not is_class_entry(named | {field: 3})
