"""FAIR's 18 views per image from one decoding, compared with Pillow view by view: ``python -m bench.speed views``.

A view of the plain form is what a loader's pipeline of transforms does: (open the file,) crop, resize, flip and
RandAugment for the strong one. It opens the file for every view, as a data set of views does, or once per image. Ours
decodes once and treats all views as tensors of bytes. Both draw the same boxes, mirrorings and operations, and both
are timed up to 8-bit views and up to normalized floats, one image after the other: neither is charged for the memory
of a whole batch nor for stacking one. Both run in turns in one process; medians of processor seconds per image.
``largest`` is the largest difference of crops and center views in levels of 255, ``other`` the share of values of
strong views that differ by more than the tolerance (turned pictures may take the neighboring pixel).
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bench import speed
from bench.pillow import pillow
from modalign.core.randomness import generator
from modalign.data.augment import OPERATIONS, rand_augment
from modalign.data.decoding.decode import decode
from modalign.data.views import center, cut, empty_views, random_rectangles, random_squares, to_pixels
from modalign.encoders.preprocess import Preprocessing
from modalign.evaluate.peak_memory import PeakMemory

CROPS, SIZE, BATCH, IMAGES = 16, 224, 32, 8
MAGNITUDE, TOLERANCE, REQUIRED = 0.3, 2, 5
PHOTOS = ((300, 200), (500, 375), (1024, 768))
CLIP = Preprocessing(
    "short", (SIZE, SIZE), (SIZE, SIZE), 3, (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
)  # fmt: skip


def measure(full: bool) -> list[dict[str, Any]]:
    """One row a size of photo; ``full`` takes five turns instead of three."""
    return [compare(width, height, 5 if full else 3) for width, height in PHOTOS] + [memory()]


def photos(width: int, height: int, count: int) -> list[bytes]:
    """JPEG files with structure on several scales."""
    files = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
        noise = rng.integers(-20, 21, (height, width, 3))
        file = io.BytesIO()
        picture = Image.fromarray((np.asarray(coarse, dtype=int) + noise).clip(0, 255).astype(np.uint8))
        picture.save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def ours(i: int, data: bytes, views: Tensor) -> Tensor:
    """The crops, the center and the strong view of photo i, uint8, into ``views`` (18, 3, 224, 224)."""
    picture = to_pixels(decode(data))
    squares, rectangle, mirrored, rest = drawn(i, *picture.shape[-2:])
    cut(picture, squares, SIZE, out=views[:CROPS])
    views[CROPS] = center(picture, SIZE)
    strong = cut(picture, rectangle, SIZE)
    views[-1:] = rand_augment(strong.flip(-1) if mirrored else strong, [rest], magnitude=MAGNITUDE)
    return views


def plain(i: int, data: bytes, *, anew: bool) -> list[np.ndarray]:
    """The same views by Pillow; ``anew`` opens the file for each."""
    views = []
    picture = opened(data)
    squares, rectangle, mirrored, rest = drawn(i, picture.height, picture.width)
    for top, left, tall, wide in squares.tolist():
        source = opened(data) if anew else picture
        views.append(source.crop((left, top, left + wide, top + tall)).resize((SIZE, SIZE), 3))
    source = opened(data) if anew else picture
    factor = SIZE / min(source.size)
    small = source.resize((int(source.width * factor), int(source.height * factor)), 3)
    left, top = (small.width - SIZE) // 2, (small.height - SIZE) // 2
    views.append(small.crop((left, top, left + SIZE, top + SIZE)))
    source = opened(data) if anew else picture
    top, left, tall, wide = rectangle[0].tolist()
    strong = source.crop((left, top, left + wide, top + tall)).resize((SIZE, SIZE), 3)
    strong = ImageOps.mirror(strong) if mirrored else strong
    for _ in range(2):
        name = list(OPERATIONS)[int(torch.randint(len(OPERATIONS), (1,), generator=rest))]
        strength = (int(torch.randint(2, (1,), generator=rest)) * 2 - 1) * MAGNITUDE
        strong = pillow(name, strength)(strong)
    views.append(strong)
    return [np.asarray(view) for view in views]


def drawn(i: int, height: int, width: int) -> tuple[Tensor, Tensor, bool, torch.Generator]:
    """Squares, the strong view's rectangle, whether it is mirrored, and the generator for RandAugment."""
    draws = generator("bench", i)
    squares = random_squares(height, width, CROPS, generator=draws)
    rectangle = random_rectangles(height, width, 1, scale=(0.3, 1.0), generator=draws)
    return squares, rectangle, bool(torch.rand((), generator=draws) < 0.5), draws


def opened(data: bytes) -> Image.Image:
    """A picture in the plain form."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def floats(views: list[np.ndarray]) -> list[Tensor]:
    """Each view of the plain form normalized as loaders do it."""
    mean, std = (np.float32(values) for values in (CLIP.mean, CLIP.std))
    return [
        torch.from_numpy(((view.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1).copy()) for view in views
    ]


def compare(width: int, height: int, turns: int) -> dict[str, Any]:
    """All forms in turns on the same photos."""
    files = photos(width, height, IMAGES)
    forms: dict[str, Callable[[int, bytes], Any]] = {
        "ours": lambda i, data: ours(i, data, empty_views(CROPS + 2, size=SIZE)),
        "once": lambda i, data: plain(i, data, anew=False),
        "anew": lambda i, data: plain(i, data, anew=True),
        "ours_floats": lambda i, data: CLIP.normalize(ours(i, data, empty_views(CROPS + 2, size=SIZE))),
        "once_floats": lambda i, data: floats(plain(i, data, anew=False)),
        "anew_floats": lambda i, data: floats(plain(i, data, anew=True)),
    }
    got, expected = (
        np.stack([np.asarray(form(i, data), dtype=int) for i, data in enumerate(files)])
        for form in (forms["ours"], forms["once"])
    )
    difference = np.abs(got.transpose(0, 1, 3, 4, 2) - expected)
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(turns):
        for name, form in forms.items():
            started = time.process_time()
            for i, data in enumerate(files):
                form(i, data)
            spent[name].append((time.process_time() - started) / IMAGES)
    seconds = {name: median(values) for name, values in spent.items()}
    return {
        "what": f"{width} × {height}",
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "faster": {
            "anew": seconds["anew"] / seconds["ours"],
            "once": seconds["once"] / seconds["ours"],
            "anew_floats": seconds["anew_floats"] / seconds["ours_floats"],
            "once_floats": seconds["once_floats"] / seconds["ours_floats"],
        },
        "required": REQUIRED,
        "largest": int(difference[:, :-1].max()),
        "other": float((difference[:, -1] > TOLERANCE).mean()),
    }


def memory() -> dict[str, Any]:
    """Highest memory above the start while a batch of 32 photos becomes 18 views each."""
    files = photos(500, 375, IMAGES) * (BATCH // IMAGES)
    found = {}
    for name in ("bytes", "floats"):
        with PeakMemory() as peak:
            views = empty_views(BATCH, CROPS + 2, size=SIZE)
            for i, data in enumerate(files):
                ours(i, data, views[i])
            made = views if name == "bytes" else CLIP.normalize(views)
        del views, made
        found[name] = None if peak.bytes is None else peak.bytes / 2**20
    return {"what": f"peak memory of a batch of {BATCH} photos of 500 × 375, MiB", "mebibytes": found}


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether the form that opens the file for every view is not five times slower, or other pixels come out."""
    timed = [row for row in rows if "faster" in row]
    slow = any(row["faster"]["anew"] < row["required"] for row in timed)
    return slow or any(row["largest"] > TOLERANCE or row["other"] > 0.02 for row in timed)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{CROPS + 2} views of {SIZE} × {SIZE} an image, processor milliseconds (file anew, once, ours)")
    for row in rows:
        if "mebibytes" in row:
            found = ", ".join(f"{name} {value:.0f}" for name, value in row["mebibytes"].items() if value is not None)
            print(f"  {row['what']}: {found}")
            continue
        for kind, end in (("8-bit views", ""), ("normalized ", "_floats")):
            times = [row["milliseconds"][name + end] for name in ("anew", "once", "ours")]
            print(
                f"  {row['what']:>10} {kind} {times[0]:7.1f} {times[1]:6.1f} {times[2]:6.1f}   "
                f"{row['faster']['anew' + end]:5.1f} × and {row['faster']['once' + end]:4.1f} ×"
                + (f" (required {row['required']})" if not end else "")
            )
        print(f"{'':13}largest difference {row['largest']} of 255; strong views {100 * row['other']:.2f} % elsewhere")


if __name__ == "__main__":
    sys.exit(speed.main([*sys.argv[1:], "views"]))
