"""Arguments of a wrong kind are refused in one sentence with what was expected, before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import modalign as ma
from modalign.data.digits import load_digits

DIGITS = load_digits().select(np.arange(0, 1797, 60))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"shots": "16"}, "Expected shots=… as a whole number of at least 1, got '16'"),
        ({"shots": 1.5}, "got 1.5"),
        ({"shots": True}, "got True"),
        ({"templates": 3}, "Expected templates=… as sentences"),
        ({"encoder": 3}, "Expected encoder=… as a name, a folder or an encoder, got 3"),
        ({"method": ma.CMM}, r"Expected method=… as a name or an unfitted method like CMM\(\)"),
        ({"split": 3}, "Expected split=… as a split file or a Split, got int"),
        ({"shot": 3}, "Unknown argument 'shot'; did you mean 'shots'?"),
        ({"unlabeld": True}, "Unknown argument 'unlabeld'; did you mean 'unlabeled'?"),
        ({"method": "cmm", "step": 3}, "Unknown hyper-parameter of CMM 'step'; did you mean 'steps'?"),
    ],
)
def test_adapt(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ma.InputError, match=sentence):
        ma.adapt(DIGITS, **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"seeds": 0}, "at least one, got"),
        ({"seeds": "x"}, r"Expected seeds=… as different integers .* got \['x'\]"),
        ({"seeds": [1, 1]}, "different integers"),
        ({"methods": []}, "Expected methods=… to hold at least one"),
        ({"methods": "cnm"}, "did you mean 'cmm'"),
        ({"shots": "many"}, "Expected shots=… as numbers ≥ 0 or 'all', got many"),
    ],
)
def test_compare(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ma.InputError, match=sentence):
        ma.compare(DIGITS, **arguments)


def test_one_vector_instead_of_rows_is_refused_without_its_numbers() -> None:
    X = np.eye(4, 64, dtype=np.float32)
    method = ma.ZeroShot().fit(X, np.arange(4))
    with pytest.raises(ma.InputError, match=r"^Expected X to be a 2-dimensional array, got shape \(64,\)\. Reshape"):
        method.predict(X[0])


def test_a_share_to_refuse_is_a_number() -> None:
    model = ma.adapt(DIGITS, method="zero_shot", validation="none")
    with pytest.raises(ma.InputError, match="Expected reject=… as a share of images, True or False, got '5%'"):
        model.predict(DIGITS, reject="5%")
