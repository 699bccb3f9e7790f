"""Fixtures for methods that learn inside an encoder: the tiny pair, real digits, and sentences about their classes."""

from __future__ import annotations

import numpy as np
import pytest

import modalign as ma
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"), dtype="float32")


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(48))


@pytest.fixture(scope="module")
def text(encoder, digits):
    return encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)
