"""Segmenters from photos to labels, saved and loaded, and their errors for bad input."""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError
from modalign.encoders.base import Encoder
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.linalg.similarity import unit
from modalign.segmentation.dense import FEATURES, LAST_LAYERS, of_last_layer
from modalign.segmentation.patch_map import PatchMap
from modalign.segmentation.segmenting import canvas_of, features_of

NAMES = ["horizontal stripes", ("checkerboard", "chess board"), "noise"]
SENTENCES = ("{}", "a photo of {}.")

pytestmark = pytest.mark.filterwarnings("ignore:'tiny' has 4 layers", "ignore:a window has 16 patches")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return ma.load_encoder("tiny", cache=False)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)


def segmenter(encoder: Any, **settings: Any) -> ma.Segmenter:
    return ma.Segmenter(encoder, NAMES, **{"templates": SENTENCES, **settings})


@pytest.fixture(scope="module")
def mapped(encoder: Encoder, photos: np.ndarray) -> Iterator[ma.Segmenter]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield segmenter(encoder, features="maskclip").fit_map(photos, vfm="tiny-vision", top=50)


@pytest.mark.parametrize("features", [name for name in FEATURES if name != "proxy"])
def test_labels_have_the_size_of_the_photo(encoder: Encoder, photos: np.ndarray, features: str) -> None:
    found = list(segmenter(encoder, features=features).segment(photos))
    assert [s.file for s in found] == ["0", "1", "2"]
    for s, photo in zip(found, photos, strict=True):
        assert s.labels.shape == s.confidence.shape == (50, 70)
        assert (s.labels.dtype, s.confidence.dtype) == (np.uint8, np.float16)
        assert s.labels.max() < 3
        assert sum(s.shares.values()) == pytest.approx(1)
        assert s.none_share == 0
        assert s.shares["noise"] == pytest.approx((s.labels == 2).mean())
        np.testing.assert_array_equal(s.picture(), photo)
        scores = s.scores()
        np.testing.assert_array_equal(scores.argmax(axis=0), s.labels)
        np.testing.assert_allclose(scores.max(axis=0), s.confidence, atol=1e-3)


def test_proxy_uses_the_grid_of_the_other_network(encoder: Encoder, photos: np.ndarray) -> None:
    proxy = segmenter(encoder, features="proxy", vfm="tiny-vision")
    assert next(proxy.segment(photos)).labels.shape == (50, 70)
    with pytest.raises(InputError, match="no grid of patches"):
        proxy.fit_map(photos, vfm="tiny-vision")


def test_one_window_is_a_plain_forward_pass(encoder: Encoder) -> None:
    plain = segmenter(encoder, features="sclip", short_side=32)
    picture = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8))
    tower = VisionTower(encoder)
    with torch.no_grad():
        pixels = encoder.preprocessing.normalize(picture[None])
        f = unit(of_last_layer(tower, pixels, LAST_LAYERS["sclip"]))[0]
    cosines = (f @ plain.text.T).T.reshape(1, -1, 4, 4)
    whole = torch.nn.functional.interpolate(cosines, (32, 32), mode="bilinear")[0]
    torch.testing.assert_close(canvas_of(plain, picture), whole)


def test_windows_are_those_of_the_encoder_itself(encoder: Encoder, photos: np.ndarray) -> None:
    """``window`` is the pooled vector of each window."""
    plain = segmenter(encoder, features="window", short_side=32, stride=32)
    square = photos[:1, :32, :32]
    vector = encoder.embed_images(square).vectors[0]
    expected = (plain.text.numpy() @ vector)[:, None, None]
    found = canvas_of(plain, torch.from_numpy(square[0]).permute(2, 0, 1))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-5)


@pytest.mark.parametrize("features", ["sclip", "scclip"])
def test_batches_and_company_change_nothing(encoder: Encoder, photos: np.ndarray, features: str) -> None:
    alone = next(segmenter(encoder, features=features, batch_size=1).segment(photos[1:2]))
    among = list(segmenter(encoder, features=features).segment(photos))[1]
    assert (alone.labels != among.labels).mean() < 1e-3  # rounding may turn a tie
    np.testing.assert_allclose(alone.scores(), among.scores(), atol=1e-4)
    again = next(segmenter(encoder, features=features).segment(photos[1:2]))
    np.testing.assert_array_equal(again.labels, among.labels)  # the same bits, whatever stands beside it
    np.testing.assert_array_equal(again.confidence, among.confidence)


def test_a_mirrored_photo_has_mirrored_labels(encoder: Encoder) -> None:
    from sklearn.datasets import load_sample_image

    photo = np.ascontiguousarray(load_sample_image("china.jpg")[::4, ::4])
    found = list(segmenter(encoder, features="window", stride=4).segment(np.stack([photo, photo[:, ::-1]])))
    assert (found[0].labels == found[1].labels[:, ::-1]).mean() > 0.6


def test_a_photo_is_rotated_upright(encoder: Encoder, photos: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(photos[0]).save(file, "PNG", exif=exif)
    (turned,) = segmenter(encoder).segment([file.getvalue()])
    assert turned.labels.shape == (70, 50)
    assert turned.picture().shape == (70, 50, 3)


@pytest.mark.parametrize("size", [(1, 1), (4, 900), (300, 2)])
def test_odd_shapes_have_labels(encoder: Encoder, size: tuple[int, int]) -> None:
    (found,) = segmenter(encoder, short_side=40).segment(np.full((1, *size, 3), 90, np.uint8))
    assert found.labels.shape == size


def test_gray_and_palette_pictures_have_labels(encoder: Encoder, photos: np.ndarray) -> None:
    picture = Image.fromarray(photos[0])
    found = list(segmenter(encoder).segment([picture.convert(mode) for mode in ("L", "P", "RGBA", "CMYK")]))
    assert [s.labels.shape for s in found] == [(50, 70)] * 4


def test_what_cannot_be_decoded_is_listed(encoder: Encoder, photos: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photos[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.fromarray(np.zeros((1, 60_000, 3), np.uint8)).save(tmp_path / "line.png")
    stream = segmenter(encoder).segment(tmp_path)
    assert repr(stream) == f"Segmentations(n_images={stream.n_images})"
    assert [s.file for s in stream] == ["good.png"]
    assert [q.id for q in stream.quarantined] == ["bad.png", "line.png"]
    assert "too narrow" in stream.quarantined[1].reason
    (tmp_path / "good.png").unlink()
    with pytest.raises(InputError, match="got none"):
        list(segmenter(encoder).segment(tmp_path))


def test_background_and_none(encoder: Encoder, photos: np.ndarray) -> None:
    unsure = segmenter(encoder, prob_threshold=1.0)
    (found,) = unsure.segment(photos[:1])
    assert (found.labels == 255).all()
    assert found.none_share == 1
    other = ma.Segmenter(encoder, ["noise"], background="dots, grid", templates=SENTENCES, prob_threshold=1.0)
    (found,) = other.segment(photos[:1])
    assert found.names == ("background", "noise")
    assert (found.labels == 0).all()


def test_the_map_maps_the_features_and_is_kept(mapped: ma.Segmenter, photos: np.ndarray, tmp_path: Path) -> None:
    assert mapped.map is not None
    assert mapped.map.weight.shape == (256, 128)
    fresh = 255 - photos
    before = list(mapped.segment(fresh))
    folder = mapped.save(tmp_path / "kept")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    again = ma.load(folder)
    assert isinstance(again, ma.Segmenter)
    assert again.settings == mapped.settings
    assert again.map is not None
    assert again.map.record == mapped.map.record
    for old, new in zip(before, again.segment(fresh), strict=True):
        np.testing.assert_array_equal(old.labels, new.labels)
        np.testing.assert_array_equal(old.confidence, new.confidence)
    assert not np.array_equal(
        before[0].labels, next(segmenter(mapped.encoder, features="maskclip").segment(fresh)).labels
    )


def test_photos_of_the_map_are_refused_unless_that_is_meant(mapped: ma.Segmenter, photos: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"got 1 of 2 that it was, such as '1'; give transductive=True"):
        mapped.segment([255 - photos[0], photos[0]])
    assert len(list(mapped.segment(photos, transductive=True))) == 3


def test_the_identity_as_a_map_of_language_patches_changes_nothing(encoder: Encoder, photos: np.ndarray) -> None:
    plain = segmenter(encoder, features="maskclip")
    windows = torch.from_numpy(photos[:, :32, :32]).permute(0, 3, 1, 2)
    expected = features_of(plain, windows)
    plain.map = PatchMap(torch.eye(128), "clip", {})
    torch.testing.assert_close(features_of(plain, windows), expected)


def test_without_a_vision_only_encoder(encoder: Encoder, photos: np.ndarray, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = segmenter(encoder, features="maskclip").fit_map(photos, z="clip", top=20, steps=0)
    assert own.map is not None
    assert own.map.weight.shape == (128, 128)
    assert next(own.segment(255 - photos)).labels.shape == (50, 70)
    assert ma.load(own.save(tmp_path / "own")).settings == own.settings


def test_a_map_has_notes_about_what_is_doubtful(encoder: Encoder, photos: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="3 classes have fewer than 1024 patches"):
        segmenter(encoder, features="maskclip").fit_map(photos[:1], vfm="tiny-vision", steps=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": "sclib"}, "did you mean 'sclip'"),
        ({"features": "proxy"}, "vfm"),
        ({"vfm": "tiny-vision"}, "vfm only with features='proxy'"),
        ({"calibration": {"bata": 0.1}}, "did you mean 'beta'"),
        ({"features": "sclip", "calibration": {"beta": 0.1}}, "only with features='scclip'"),
        ({"window": 4}, "at least a patch"),
        ({"batch_size": 0}, "batch_size"),
        ({"resize": "nearest"}, "resize"),
        ({"templates": "no such set"}, "Unknown set of templates"),
        ({"area_threshold": 0.1}, "together with a background"),
    ],
)
def test_settings_that_do_not_fit_are_refused(encoder: Encoder, settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        segmenter(encoder, **settings)


def test_encoders_that_cannot_are_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="'tiny-vision' has no text tower"):
        segmenter("tiny-vision")
    with pytest.raises(InputError, match="one encoder, its name or its folder, got 'tiny-vision\\+tiny'"):
        segmenter("tiny-vision+tiny")
    kind = encoder.model.config.model_type
    encoder.model.config.model_type = "siglip"
    try:
        with pytest.raises(InputError, match="'tiny' supports features='window' only"):
            segmenter(encoder)
    finally:
        encoder.model.config.model_type = kind


@pytest.mark.parametrize(("z", "vfm"), [("vfm", None), ("clip", "tiny-vision"), ("both", "tiny-vision")])
def test_maps_of_nothing_are_refused(encoder: Encoder, photos: np.ndarray, z: str, vfm: str | None) -> None:
    with pytest.raises(InputError, match="Expected z as one of vfm\\+clip, vfm, clip"):
        segmenter(encoder, features="sclip").fit_map(photos, z=z, vfm=vfm)
    with pytest.raises(InputError, match="no grid of patches"):
        segmenter(encoder, features="window").fit_map(photos, vfm="tiny-vision")


def test_doubts_are_reported_once(encoder: Encoder) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = ma.Segmenter(encoder, ["noise", ("dots", "dots")], templates=SENTENCES)
        list(found.segment(np.zeros((1, 40, 40, 3), np.uint8)))
    said = " ".join(str(w.message) for w in told if w.category is UserWarning)
    assert said.count("not the 12 of SC-CLIP") == 1
    assert said.count("15 neighbors instead of 30") == 1
    assert said.count("'dots' occurs twice") == 1


def test_files_that_do_not_fit_are_refused(mapped: ma.Segmenter, tmp_path: Path) -> None:
    folder = mapped.save(tmp_path / "kept")
    with pytest.raises(EncoderMismatchError):
        ma.load(folder, encoder="tiny-vision")
    assert isinstance(ma.load(folder, encoder=mapped.encoder), ma.Segmenter)
    card = folder / "segmenter.json"
    text = card.read_text()
    card.write_text(text.replace('"noise"', '"noises"'))
    with pytest.raises(InputError, match="does not match its digest"):
        ma.load(folder)
    card.write_text(text)
    (weights,) = folder.glob("weights-*")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="do not match their hash"):
        ma.load(folder)
    shutil.rmtree(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(InputError, match="other"):
        mapped.save(tmp_path / "other")


def test_segment_is_a_segmenter_used_once(encoder: Encoder, photos: np.ndarray) -> None:
    quick = list(ma.segment(photos[:1], NAMES, encoder=encoder, features="maskclip", templates=SENTENCES))
    (slow,) = segmenter(encoder, features="maskclip").segment(photos[:1])
    np.testing.assert_array_equal(quick[0].labels, slow.labels)
    assert quick[0].settings == slow.settings
    assert "noise" in repr(segmenter(encoder))
    assert "70 × 50" in repr(slow)
