"""The embedded digits are scikit-learn's, bit for bit."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

from modalign.data.digits import DIGIT_NAMES, DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import sentences


def test_pixels_and_labels_are_those_of_scikit_learn() -> None:
    bunch, items = sklearn_digits(), load_digits()
    assert len(items) == 1797
    assert (items.labels == bunch.target).all()
    assert items.class_names == DIGIT_NAMES
    for i in range(0, 1797, 50):
        image = np.asarray(items.open(i))
        assert image.shape == (8, 8, 3)
        np.testing.assert_allclose(image[..., 0] / 255 * 16, bunch.images[i], atol=0.04)
    assert len(set(items.ids)) == 1797


def test_two_loads_share_nothing_that_can_be_changed() -> None:
    first, second = load_digits(), load_digits()
    first.labels[:] = -1
    assert (second.labels >= 0).all()
    assert [first.read(i) for i in range(20)] == [second.read(i) for i in range(20)]


def test_the_template_fits_the_names() -> None:
    assert sentences(DIGIT_NAMES, DIGIT_TEMPLATES)[3] == ["a photo of the digit three."]
