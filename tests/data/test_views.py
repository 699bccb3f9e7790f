"""Views cut from decoded pixels are those of Pillow, lie inside the picture, and repeat with their generator."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from modalign.core.errors import InputError
from modalign.data import views

TOLERANCE = 2  # of 255, stated in the module


def photo(width, height, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.integers(-25, 26, (height, width, 3))
    return Image.fromarray((np.asarray(coarse, dtype=int) + noise).clip(0, 255).astype(np.uint8))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def difference(tensor, image):
    return np.abs(tensor.permute(1, 2, 0).numpy().astype(int) - np.asarray(image)).max()


SHAPES = [(300, 200), (120, 333), (224, 224), (40, 30), (500, 375), (1, 1), (3, 400)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
@pytest.mark.parametrize("size", [32, 224])
def test_resizing_is_pillows(width, height, size):
    image = photo(width, height)
    small = views.resize(views.to_pixels(image), size, size + 5)
    assert small.dtype == torch.uint8
    assert difference(small, image.resize((size + 5, size), 3)) <= TOLERANCE


@pytest.mark.parametrize(("width", "height"), [(300, 200), (40, 30)])
def test_the_path_for_other_devices_is_pillows_too(width, height):
    image = photo(width, height)
    small = views._resize_in_floats(views.to_pixels(image)[None], 64, 70)[0]
    assert difference(small, image.resize((70, 64), 3)) <= TOLERANCE


@pytest.mark.parametrize(("width", "height"), [(300, 200), (201, 333), (64, 64), (65, 64), (40, 30), (31, 500)])
def test_the_center_view_is_that_of_clip(width, height):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    reference = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64, do_rescale=False, do_normalize=False)
    image = photo(width, height)
    expected = reference(images=image, return_tensors="np")["pixel_values"][0]
    got = views.center(views.to_pixels(image), 64).numpy().astype(int)
    assert np.abs(got - expected).max() <= TOLERANCE


def test_crops_equal_the_pipeline_that_decodes_for_every_view():
    file = io.BytesIO()
    photo(500, 375).save(file, "JPEG", quality=95)

    def decoded():
        return Image.open(io.BytesIO(file.getvalue())).convert("RGB")

    pixels = views.to_pixels(decoded())
    crops = views.random_crops(pixels, 16, size=96, generator=dice(3))
    boxes = views.random_squares(375, 500, 16, generator=dice(3)).tolist()
    assert crops.shape == (16, 3, 96, 96)
    for crop, (top, left, tall, wide) in zip(crops, boxes, strict=True):
        alone = decoded().crop((left, top, left + wide, top + tall)).resize((96, 96), 3)
        assert difference(crop, alone) <= TOLERANCE


def test_crops_are_written_if_requested():
    pixels = views.to_pixels(photo(90, 70))
    boxes = views.random_squares(70, 90, 3, generator=dice())
    for room in (views.empty_views(5, size=32), torch.empty(5, 3, 32, 32, dtype=torch.uint8)):
        room.fill_(7)
        given = views.cut(pixels, boxes, 32, out=room[1:4])
        assert torch.equal(room[1:4], torch.cat([views.cut(pixels, box[None], 32) for box in boxes]))
        assert given.data_ptr() == room[1:4].data_ptr()
        assert (room[[0, 4]] == 7).all()
    assert views.cut(pixels, boxes[:0], 32).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (1, 9), (2, 2), (64, 64)])
def test_boxes_are_inside_and_have_the_requested_sizes(height, width):
    short = min(height, width)
    top, left, tall, wide = views.random_squares(height, width, 3000, scale=(0.5, 0.9), generator=dice()).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    assert (tall == wide).all()
    assert tall.min() >= max(1, int(0.5 * short))
    assert tall.max() <= max(1, 0.9 * short)
    top, left, tall, wide = views.random_rectangles(height, width, 3000, generator=dice()).T
    assert (torch.stack((top, left, tall - 1, wide - 1)) >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()


def test_squares_are_uniform_in_size_and_place():
    top, left, side, _ = views.random_squares(1000, 2000, 20_000, scale=(0.5, 0.9), generator=dice()).double().T
    for share in (
        (side / 1000 - 0.5) / 0.4,
        top / (1000 - side),
        left / (2000 - side),
    ):
        empirical = share.sort().values
        uniform = (torch.arange(20_000) + 0.5) / 20_000
        assert (empirical - uniform).abs().max() < 1.63 / 20_000**0.5 + 0.003  # Kolmogorov at 1 %, and whole pixels


def test_rectangles_have_the_areas_and_shapes_of_random_resized_crop():
    boxes = views.random_rectangles(2000, 2000, 20_000, scale=(0.2, 0.5), generator=dice())
    tall, wide = boxes[:, 2:].double().T
    share = tall * wide / 4e6
    assert share.min() > 0.199
    assert share.max() < 0.501
    assert abs(share.mean() - 0.35) < 0.003
    log_ratio = (wide / tall).log()
    assert log_ratio.abs().max() < np.log(4 / 3) + 0.002
    assert abs(log_ratio.mean()) < 0.01


def test_only_the_generator_decides():
    pixels = views.to_pixels(photo(80, 60))
    torch.manual_seed(1)
    first = views.random_crops(pixels, 4, size=32, generator=dice(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = views.random_crops(pixels, 4, size=32, generator=dice(5))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, views.random_crops(pixels, 4, size=32, generator=dice(6)))


def test_mirror_exchanges_left_and_right():
    pixels = views.to_pixels(photo(31, 20))
    mirrored = views.mirror(pixels)
    assert torch.equal(mirrored[..., 0], pixels[..., -1])
    assert torch.equal(views.mirror(mirrored), pixels)


def test_batches_and_pictures_are_treated_alike():
    batch = torch.stack([views.to_pixels(photo(70, 50, seed)) for seed in range(3)])
    for function in (lambda x: views.center(x, 24), lambda x: views.resize(x, 9, 11), views.mirror):
        assert torch.equal(function(batch), torch.stack([function(x) for x in batch]))


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8), torch.zeros(3, 0, 4, dtype=torch.uint8)]
)
def test_what_is_not_pixels_is_refused(pixels):
    for use in (lambda: views.resize(pixels, 4, 4), lambda: views.center(pixels, 4)):
        with pytest.raises(InputError, match=r"Expected 8-bit pixels"):
            use()


@pytest.mark.parametrize("scale", [(0, 0.5), (0.9, 0.5), (0.5, 1.1), (-1, 1)])
def test_scales_are_checked(scale):
    with pytest.raises(InputError, match="range of scales"):
        views.random_squares(9, 9, 1, scale=scale, generator=dice())
