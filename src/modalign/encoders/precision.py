"""Choice of the data type: half precision if it is faster on this machine and the vectors agree, else float32."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.files import read_json, write
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.features.store import FeatureStore
from modalign.encoders.private import private_folder

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

GAIN = 1.3
"""Half precision must be this many times faster …"""
AGREEMENT = 0.999
"""… and the cosine of every probe image's two vectors at least this."""
SMALL = 20_000_000
"""Networks of fewer parameters stay in float32, since the gain is negligible."""
_CANDIDATES = {"cuda": (torch.float16, torch.bfloat16), "mps": (torch.float16,), "cpu": (torch.bfloat16,)}
_IMAGES = 2
_SENTENCES = ["a photo of a cat.", "seven", "a satellite picture of a harbour with many small white boats"]


def choose(encoder: Encoder) -> Encoder:
    """Return ``encoder``, or a copy in half precision if that is faster on this machine.

    The first decision is stored in the cache and reused, see :func:`decided`: vectors of another type are different
    vectors, so a different timing result would invalidate the cache.
    """
    if encoder.n_parameters < SMALL or encoder.device.type not in _CANDIDATES:
        return encoder
    made: dict[torch.dtype, Encoder] = {}

    def decide() -> tuple[torch.dtype, list[dict[str, float | str]]]:
        best, found = _probe(encoder)
        made[best.dtype] = best
        return best.dtype, found

    dtype = decided(encoder, decide)
    return made[dtype] if dtype in made else encoder.cast(dtype)


def decided(encoder: Encoder, decide: Callable[[], tuple[torch.dtype, object]], purpose: str = "") -> torch.dtype:
    """The compute type that the cache holds for a network, this machine and a purpose.

    If there is none, the type that ``decide`` returns, with what it measured; it is then stored. Without a store, every
    call decides again.
    """
    note = None if encoder.store is None else _note(encoder, encoder.store, purpose)
    known = None if note is None else _read_decision(note)
    if known is not None:
        return known
    damaged = note is not None and note.exists()
    best, found = decide()
    if note is None:
        return best
    decision = json.dumps({"dtype": str(best).removeprefix("torch."), "probe": found}, indent=2)
    with suppress(OSError, InputError):  # without a note every run decides again
        private_folder(note.parent)
        write(note, decision, private=True, overwrite=damaged)  # else the first process counts
    return _read_decision(note) or best


def _probe(encoder: Encoder) -> tuple[Encoder, list[dict[str, float | str]]]:
    """Return the first candidate that is fast and accurate, and the measurements."""
    found: list[dict[str, float | str]] = []
    for dtype in _CANDIDATES[encoder.device.type]:
        gain = gain_of_product(encoder.device, dtype)
        if gain < GAIN:  # a processor without such instructions would need minutes for a large network
            found.append({"dtype": str(dtype), "gain in a matrix product": round(gain, 2)})
            continue
        other = encoder.cast(dtype)
        images = _images(encoder)
        agreement = _agreement(encoder, other, images)  # which also warms both up
        slow, fast = (seconds_of(encoder.device, partial(e.encode, images[:1]), 1) for e in (encoder, other))
        found.append({"dtype": str(dtype), "gain": round(slow / fast, 2), "cosine": agreement})
        if slow / fast >= GAIN and agreement >= AGREEMENT:  # NaN agrees with nothing
            return other, found
    return encoder, found


def _agreement(encoder: Encoder, other: Encoder, images: list[np.ndarray]) -> float:
    """Return the smallest cosine between the two vectors of a picture or sentence."""
    pairs = [(encoder.encode(images)[0], other.encode(images)[0])]
    if isinstance(encoder, ClipEncoder) and isinstance(other, ClipEncoder) and encoder.reads_sentences:
        pairs.append((encoder.encode_sentences(_SENTENCES), other.encode_sentences(_SENTENCES)))
    return min(float((a * b).sum(1).min()) for a, b in pairs)


def _images(encoder: Encoder) -> list[np.ndarray]:
    """A few pictures with structure on all scales, always the same, prepared for the network."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(_IMAGES, 3, 256, 256)
    for cells in (2, 8, 32, 128):
        noise = torch.rand(_IMAGES, 3, cells, cells, generator=generator)
        pictures += torch.nn.functional.interpolate(noise, 256, mode="bilinear") / 4
    pixels = (pictures * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [encoder.preprocessing.prepare(Image.fromarray(p)) for p in pixels]


def _product(device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    # Large enough to keep a GPU busy; on a CPU small enough for emulated arithmetic, a thousand times slower.
    side = 256 if device.type == "cpu" else 4096
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    return lambda: matrix @ matrix


def gain_of_product(device: torch.device, dtype: torch.dtype) -> float:
    """How many times faster a matrix product is in ``dtype`` than in float32; milliseconds to find out."""
    plain, half = (seconds_of(device, _product(device, t)) for t in (torch.float32, dtype))
    return plain / half


def seconds_of(device: torch.device, function: Callable[[], object], repeats: int = 6) -> float:
    """Seconds of the fastest of some calls; on a CPU processor seconds, which no other work on the machine changes."""
    best, clock = float("inf"), time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(repeats):
        started = clock()
        function()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        best = min(best, clock() - started)
    return max(best, 1e-9)  # the clock may not tick


def _note(encoder: Encoder, store: FeatureStore, purpose: str) -> Path:
    """Where the decision is written: by network (in float32), machine and purpose."""
    name = torch.cuda.get_device_name(encoder.device) if encoder.device.type == "cuda" else encoder.device.type
    machine = (name, platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.__version__)
    key = "|".join((encoder.spec.fingerprint, *machine, *filter(None, [purpose])))
    return store.root / "precision" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"


def _read_decision(note: Path) -> torch.dtype | None:
    """The type that an earlier run chose, or None if there is no readable note."""
    try:
        content = read_json(note, "a note on the compute type")
    except InputError:
        return None
    chosen = content.get("dtype") if isinstance(content, dict) else None
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}.get(str(chosen))
