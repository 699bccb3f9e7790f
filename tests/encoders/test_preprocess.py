"""Pixels are those of transformers' own image processors, and a config that means something else is refused."""

import numpy as np
import pytest
import torch
from checkpoints import CLIP_MEAN, CLIP_STD, picture
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError
from modalign.data import views
from modalign.data.items import load_items
from modalign.encoders import find_encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.encoders.preprocess import VERSION, Preprocessing

CPU = torch.device("cpu")
SHAPES = [
    (1, 1),
    (1, 300),
    (500, 3),
    (31, 32),
    (33, 64),
    (64, 64),
    (65, 64),
    (100, 75),
    (375, 500),
    (224, 225),
    (517, 64),
]
REFERENCES = {
    "CLIP": CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64),
    "CLIP at 224": CLIPImageProcessorPil(),
    "CLIP with an odd crop": CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=51),
    "CLIP with a crop that needs a border": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=51),
    "SigLIP": SiglipImageProcessorPil(size={"height": 48, "width": 64}),
    "DINOv2": BitImageProcessorPil(size={"shortest_edge": 72}, crop_size=64, image_mean=CLIP_MEAN, image_std=CLIP_STD),
    "ViT": ViTImageProcessorPil(size={"height": 64, "width": 64}),
    "nothing but scaling": ViTImageProcessorPil(do_resize=False, do_normalize=False),
}


def levels(a, b, deviation=1.0):
    """How far two normalised pictures are apart, in 8-bit levels."""
    return np.abs(np.asarray(a, dtype=float) - np.asarray(b)) * np.reshape(deviation, (-1, 1, 1)) * 255


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_equals_transformers_on_every_shape(name, width, height):
    """Same size, crop and filter as its Pillow processors; the resampling rounds otherwise, by at most 2 levels."""
    reference = REFERENCES[name]
    ours = Preprocessing.read(reference.to_dict(), name)
    image = picture(width + height, width, height)
    expected = reference(images=image, return_tensors="np")["pixel_values"][0]
    pixels = ours.inputs([ours.prepare(image)], CPU, torch.float32)["pixel_values"][0].numpy()
    assert pixels.shape == expected.shape
    off = levels(pixels, expected, ours.std)
    assert off.max() < 2.001
    assert (off > 0.001).mean() < 0.02


@pytest.mark.parametrize("name", REFERENCES)
def test_equals_transformers_exactly_but_for_the_resampling(name, monkeypatch):
    monkeypatch.setattr("modalign.encoders.preprocess._FILTERS", {})  # all filters by Pillow then
    for width, height in SHAPES:
        reference = REFERENCES[name]
        ours = Preprocessing.read(reference.to_dict(), name)
        image = picture(width + height, width, height)
        expected = reference(images=image, return_tensors="np")["pixel_values"][0]
        pixels = ours.inputs([ours.prepare(image)], CPU, torch.float32)["pixel_values"][0].numpy()
        long = max(width / height, height / width) > 16
        assert levels(pixels, expected, ours.std).max() < (2.001 if long else 1e-3)


def test_large_photos_too():
    reference = REFERENCES["CLIP at 224"]
    ours = Preprocessing.read(reference.to_dict(), "x")
    image = picture(1, 3000, 2000)
    expected = reference(images=image, return_tensors="np")["pixel_values"][0]
    pixels = ours.inputs([ours.prepare(image)], CPU, torch.float32)["pixel_values"][0].numpy()
    assert levels(pixels, expected, ours.std).max() < 2.001


def test_the_center_view_of_towers_is_the_same():
    """What methods on towers cut from decoded pixels is what an encoder embeds, to the last bit."""
    ours = Preprocessing.read(REFERENCES["CLIP at 224"].to_dict(), "x")
    for width, height in ((375, 500), (224, 225), (100, 75)):
        image = picture(1, width, height)
        cut = views.center(views.to_pixels(image), 224)
        assert np.array_equal(ours.prepare(image), cut.permute(1, 2, 0).numpy())


def test_a_line_of_pixels_does_not_fill_the_memory():
    ours = Preprocessing.read(REFERENCES["CLIP at 224"].to_dict(), "x")
    line = Image.new("RGB", (2_000_000, 1), (10, 20, 30))  # resized whole it would have 100 gigapixels
    assert (ours.prepare(line) == [10, 20, 30]).all()


@pytest.mark.parametrize(("width", "height"), [s for s in SHAPES if s not in ((1, 300), (500, 3))])
def test_naflex_equals_transformers(width, height):
    reference = Siglip2ImageProcessorPil(patch_size=16, max_num_patches=20)
    ours = Preprocessing.read(reference.to_dict(), "NaFlex")
    images = [picture(1, width, height), picture(2, 90, 40)]
    expected = reference(images=images, return_tensors="pt")
    inputs = ours.inputs([ours.prepare(image) for image in images], CPU, torch.float32)
    assert set(inputs) == set(expected)
    for key, value in expected.items():
        assert (inputs[key].to(value.dtype) - value).abs().max() * 0.5 * 255 < (
            2.001 if key == "pixel_values" else 1e-6
        )


@pytest.mark.parametrize(("width", "height"), [(64, 64), (100, 75), (300, 500)])
def test_dinov3_within_one_level_of_its_float_resize(width, height):
    """Its own processor scales to floating point first and resizes then; ours rounds to 8 bits in between."""
    ours = Preprocessing.read({"image_processor_type": "DINOv3ViTImageProcessorFast"}, "DINOv3")
    image = picture(5, width, height)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    expected = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    got = torch.from_numpy(ours.prepare(image)).permute(2, 0, 1)[None] / 255
    assert (got - expected).abs().max() <= 1 / 255 + 1e-6
    mean, std = ours.normalize(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(-mean[0, :, 0, 0] * std, torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize("kind", ["CLIP", "Siglip2"])
def test_mirror_is_the_center_view_of_left_and_right_exchanged(kind):
    reference = {"CLIP": REFERENCES["CLIP"], "Siglip2": Siglip2ImageProcessorPil(max_num_patches=16)}[kind]
    ours = Preprocessing.read(reference.to_dict(), kind)
    image = picture(3, 96, 64)
    flipped = Preprocessing.prepare(ours, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    # Flipping before or after resizing is the same but for the rounding of Pillow's filter weights.
    assert np.abs(ours.prepare(image, "mirror").astype(int) - flipped).max() <= 1
    assert not np.array_equal(ours.prepare(image, "mirror"), ours.prepare(image))


def test_old_configs_with_bare_numbers_read_as_their_class_meant_them():
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    assert Preprocessing.read(old, "old") == Preprocessing.read(CLIPImageProcessorPil().to_dict(), "new")
    old_vit = {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 224,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    assert Preprocessing.read(old_vit, "old") == Preprocessing.read(ViTImageProcessorPil().to_dict(), "new")


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("clip", CLIPImageProcessorPil(size={"shortest_edge": 96}, crop_size=96)),
        ("siglip", SiglipImageProcessorPil(size={"height": 96, "width": 96})),
        ("vit", ViTImageProcessorPil(size={"height": 96, "width": 96})),
    ],
)
def test_without_a_config_the_convention_of_the_kind_at_its_image_size(kind, reference):
    assert Preprocessing.of_model(kind, 96, 16) == Preprocessing.read(reference.to_dict(), kind)


def test_dinov2_without_a_config_is_cut_at_224_from_a_short_side_of_256():
    usual = Preprocessing.of_model("dinov2", 518, 14)
    assert (usual.resize, usual.size, usual.crop) == ("short", (256, 256), (224, 224))
    assert Preprocessing.of_model("resnet", 224, None) is None


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.9}, "crop_pct"),
        ({"image_processor_type": "Unheard"}, "image_mean"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 3}}, "longest_edge"),
        ({"image_processor_type": "CLIPImageProcessor", "do_pad": True}, "do_pad"),
    ],
)
def test_what_is_not_understood_is_refused(config, complaint):
    with pytest.raises(InputError, match=complaint):
        Preprocessing.read(config, "test")


def test_the_card_names_all_that_decides_a_pixel():
    ours = Preprocessing.read(REFERENCES["CLIP"].to_dict(), "x")
    others = [
        Preprocessing.read(REFERENCES["CLIP"].to_dict() | change, "x")
        for change in (
            {"resample": 2},
            {"image_mean": [0.1] * 3},
            {"image_std": [0.1] * 3},
            {"do_center_crop": False},
            {"size": 65},
            {"rescale_factor": 0.01},
            {"crop_size": 63},
        )
    ]
    assert len({str(p.card()) for p in (ours, *others)}) == 8


def test_vectors_of_another_version_of_the_preprocessing_are_computed_again(tmp_path, monkeypatch):
    """They stay in the cache under their own fingerprint; a model fitted on them finds its encoder as it was."""
    path = tmp_path / "photo.jpg"
    picture(1, 800, 600).save(path, quality=95)
    now = ma.load_encoder("tiny", device="cpu", cache=tmp_path / "cache")
    before = now.as_of(1)
    old, new = (encoder.embed_images([path]) for encoder in (before, now))
    assert not np.array_equal(old.vectors, new.vectors)
    assert (old.vectors * new.vectors).sum() > 0.999
    whole = before.preprocessing.prepare(load_items([path]).open(0))
    assert np.array_equal(old.vectors, before.encode([whole])[0].numpy())
    with pytest.raises(EncoderMismatchError):
        new.spec.require(old.spec)
    for spec in (old.spec, new.spec):
        found = find_encoder(spec, device="cpu", cache=tmp_path / "cache")
        assert found.spec == spec
        monkeypatch.setattr(found, "_forward", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(found.embed_images([path]).vectors, (old if spec == old.spec else new).vectors)
    joined = JoinedEncoder([now, ma.load_encoder("tiny-vision", cache=False)])
    assert joined.as_of(1).spec != joined.spec
    assert joined.as_of(1).as_of(VERSION).spec == joined.spec
