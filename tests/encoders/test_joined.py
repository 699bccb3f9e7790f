"""Encoders side by side: the columns are those of the parts, sentences go to the one that reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.encoders import JoinedEncoder, load_encoder


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> JoinedEncoder:
    return load_encoder("tiny-vision+tiny", cache=tmp_path_factory.mktemp("cache"))


def test_vectors_are_those_of_the_parts_beside_each_other(joined: JoinedEncoder) -> None:
    images = load_digits().select(np.arange(12))
    features = joined.embed_images(images, view="mirror")
    parts = [part.embed_images(images, view="mirror") for part in joined.parts]
    np.testing.assert_allclose(
        features.vectors, np.concatenate([part.vectors for part in parts], axis=1) / np.sqrt(2), atol=1e-7
    )
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(features.labels, images.labels)
    for part, alone in zip(joined.parts, parts, strict=True):
        again = joined.part_of(features, part)
        np.testing.assert_allclose(again.vectors, alone.vectors, atol=1e-6)
        assert again.spec == alone.spec


def test_parts_that_stand_together_are_read_off_a_larger_join(joined: JoinedEncoder) -> None:
    """As where an anchor is given beside two encoders: it is the third part, and they stay what they were."""
    images = load_digits().select(np.arange(12))
    pair = JoinedEncoder([joined.parts[0], joined.parts[1].cast(torch.bfloat16)])
    larger = JoinedEncoder([*pair.parts, joined.parts[1]])
    again = larger.part_of(larger.embed_images(images), pair)
    np.testing.assert_allclose(again.vectors, pair.embed_images(images).vectors, atol=1e-6)
    assert again.spec == pair.spec


def test_sentences_go_to_the_part_that_reads(joined: JoinedEncoder) -> None:
    text = joined.embed_texts(["a circle", "a square"])
    np.testing.assert_array_equal(text.vectors, joined.parts[1].embed_texts(["a circle", "a square"]).vectors)
    assert text.spec == joined.language.spec
    assert joined.logit_scale == joined.parts[1].logit_scale


def test_order_and_parts_decide_the_fingerprint(joined: JoinedEncoder) -> None:
    other = JoinedEncoder(joined.parts[::-1])
    assert other.language is joined.language
    assert len({joined.spec.fingerprint, other.spec.fingerprint, *(p.spec.fingerprint for p in joined.parts)}) == 4
    assert (joined.name, joined.spec.dim) == ("tiny-vision+tiny", sum(joined.widths))


def test_an_image_that_cannot_be_decoded_is_left_out_of_both(joined: JoinedEncoder, tmp_path: Path) -> None:
    for i in range(3):
        load_digits().open(i).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    features = joined.embed_images(tmp_path)
    assert len(features) == 2
    assert len(features.quarantined) == 1


def test_what_cannot_be_joined_is_reported() -> None:
    with pytest.raises(InputError, match="different encoders"):
        load_encoder("tiny+tiny", cache=False)
    with pytest.raises(InputError, match="both sides"):
        load_encoder("tiny+", cache=False)
    blind = JoinedEncoder([load_encoder("tiny-vision", cache=False)])
    assert not blind.has_text
    with pytest.raises(InputError, match="text tower"):
        blind.embed_texts(["a"])
    with pytest.raises(InputError, match="patch tokens"):
        blind.embed_images(load_digits().select([0]), tokens=True)
