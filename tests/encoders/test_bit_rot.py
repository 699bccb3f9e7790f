"""Whatever happens to cached vectors on the disk, images, sentences and crops get the vectors that they had."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from modalign.encoders import load_encoder
from modalign.encoders.features.crop_features import embed_crops

USERS = {
    "images": lambda encoder, photos: encoder.embed_images(photos).vectors,
    "sentences": lambda encoder, photos: encoder.embed_texts(["a disc", "a square", "a star"]).vectors,
    "crops": lambda encoder, photos: embed_crops(photos, encoder, crops=2).tokens,
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("places", [[3], range(3, 10**6, 512)], ids=["one bit", "many bits"])
def test_damaged_vectors_are_made_again_with_one_warning(user, places, photos, tmp_path):
    embed = USERS[user]
    before = np.array(embed(load_encoder("tiny", cache=tmp_path / "cache", dtype="float32"), photos))
    path = next((tmp_path / "cache").glob("*/vectors.f32"))
    data = bytearray(path.read_bytes())
    for place in places:
        if place < len(data):
            data[place] ^= 0x40
    path.write_bytes(data)
    encoder = load_encoder("tiny", cache=tmp_path / "cache", dtype="float32")
    with pytest.warns(UserWarning, match=r"\d+ of \d+ cached vectors .* embedded again") as noted:
        np.testing.assert_allclose(embed(encoder, photos), before, atol=1e-5)
    assert len(noted) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(embed(encoder, photos), before, atol=1e-5)


def test_an_iterator_of_images_is_embedded_again_whole(photos, tmp_path):
    encoder = load_encoder("tiny", cache=tmp_path / "cache", dtype="float32")
    paths = sorted(photos.rglob("*.jpg"))
    before = np.array(embed_crops(iter(paths), encoder, crops=2).tokens)
    path = next((tmp_path / "cache").glob("*/vectors.f32"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.warns(UserWarning, match="embedded again"):
        np.testing.assert_allclose(embed_crops(iter(paths), encoder, crops=2).tokens, before, atol=1e-5)
