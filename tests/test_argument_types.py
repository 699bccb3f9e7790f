"""Arguments of a wrong type are named in one sentence; errors that are not theirs are raised as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from drawings import draw

import modalign as ma
from modalign.core.arguments.argument_types import checked_arguments

pytestmark = pytest.mark.usefixtures("own_cache")


@checked_arguments
def example(
    number: float, flag: bool = False, names: str | Sequence[str] = (), *, kind: Literal["a", "b"] | None = None
) -> float:
    """Fail like code that does not check."""
    if number == 13:
        raise KeyError("not about an argument")
    return sum(len(name) for name in names) / number + len(kind or "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"number": "1"}, "number=… as float, got str '1'"),
        ({"number": True, "names": 3}, "number=… as float, got bool True"),
        ({"number": 1, "flag": "no"}, "flag=… as bool, got str 'no'"),
        ({"number": 1, "flag": np.int64(1)}, "flag=… as bool, got int 1"),
        ({"number": 1, "names": 3}, r"names=… as str or Sequence\[str\], got int 3"),
        ({"number": 1, "names": ["a", None]}, r"names=… .*got list \['a', None\]"),
        ({"number": 1, "names": b"ab"}, "names=… .*got bytes"),
        ({"number": 1, "kind": 2}, "kind=… as 'a' or 'b' or None, got int 2|kind=… as .*None, got int 2"),
        ({"number": 1, "kind": object()}, "got object\\.$"),
    ],
)
def test_the_first_argument_that_does_not_fit_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ma.InputError, match=words) as caught:
        example(**arguments)
    assert caught.value.__cause__ is None


def test_other_errors_and_right_calls_are_left_alone() -> None:
    assert example(np.float32(2), np.bool_(True), ("ab", "cd"), kind="a") == 3
    y = np.repeat([0, 1], 10)
    assert np.array_equal(ma.few_shot(y, np.int64(2), seed=np.uint8(3)).train, ma.few_shot(y, 2, seed=3).train)
    with pytest.raises(KeyError):
        example(13)
    with pytest.raises(ZeroDivisionError):
        example(0)
    with pytest.raises(TypeError, match="unexpected keyword"):
        example(1, other=2)  # type: ignore[call-arg]


WRONG = (None, -1, 2.5, b"abc", [None], object(), np.zeros((3, 2)), int)


def test_public_functions_raise_no_errors_of_python(tmp_path) -> None:
    photos = draw(tmp_path / "photos", per_class=2)
    items, X = ma.load_items(photos), ma.Features(np.eye(3))
    calls = {
        ma.run_benchmark: ("source", {"methods": ["gda"]}),
        ma.load_encoder: ("name", {}),
        ma.FeatureStore: ("root", {}),
        X.select: ("rows", {}),
        items.select: ("indices", {}),
        ma.few_shot: ("labels", {"shots": 1}),
        ma.load: ("folder", {}),
        ma.load_items: ("addresses", {"source": photos}),
        ma.adapt: ("unlabeled", {"images": photos}),
        ma.compare: ("ablations", {"source": photos}),
        ma.Segmenter: ("calibration", {"encoder": "tiny", "classes": ["a", "b"]}),
    }
    for function, (name, others) in calls.items():
        for value in WRONG:
            if function in (ma.FeatureStore, ma.Segmenter) and value is None:  # the default
                continue
            with pytest.raises(ma.InputError, match=r"^Expected "):
                function(**{name: value}, **others)


def test_an_array_is_judged_by_the_function_that_reads_it() -> None:
    X = np.eye(4)
    for labels in ([10**30, 1, 0, 1], [0, 1, 0, -(10**19)]):
        with pytest.raises(ma.InputError, match="labels as integers of at most 2147483647, got"):
            ma.GDA().fit(X, labels)
