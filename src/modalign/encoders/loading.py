"""load_encoder: a name → an encoder, ready to use."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from modalign.encoders.base import Encoder
from modalign.encoders.catalog import locate
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.joined import JoinedEncoder
from modalign.encoders.precision import choose
from modalign.encoders.store import FeatureStore
from modalign.encoders.vision import VisionEncoder
from modalign.errors import InputError, UnknownNameError

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_encoder(
    name: str | os.PathLike[str] = "tiny",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    cache: bool | str | os.PathLike[str] | FeatureStore = True,
) -> Encoder | JoinedEncoder:
    """A pretrained encoder of images, and of sentences if it is a vision-language one.

    Parameters
    ----------
    name : ``"tiny"`` or ``"tiny-vision"``, which are part of the package; a local folder in Hugging Face format
        (``config.json``, ``model.safetensors``, ``preprocessor_config.json``, tokenizer files); or a name on the hub
        such as ``"openai/clip-vit-base-patch16"``, with ``@revision`` if need be. See ``KNOWN_ENCODERS``. Several
        with a plus between them, ``"tiny-vision+tiny"``, give a
        :class:`~modalign.encoders.joined.JoinedEncoder`, which has their vectors side by side.
    device : ``"auto"`` (CUDA, else Apple's GPU, else the CPU) or what torch calls it.
    dtype : ``"auto"`` computes in half precision where this machine is at least 1.3 times faster so and the vectors
        agree (cosine ≥ 0.999); the decision is kept in the cache. Or ``"float32"``, ``"bfloat16"``, ``"float16"``.
    cache : where vectors are kept: True for the default folder, a folder, or False for nowhere.

    Raises
    ------
    UnknownNameError : no such encoder; suggests one.
    UnavailableError : a hub name that cannot be fetched now; says what to put where.
    InputError : the checkpoint is incomplete, of an unsupported kind, or would need code or pickles to be run.
    """
    chosen = _dtype(dtype)
    place = _device(device)
    store = _store(cache)
    names = [part.strip() for part in os.fspath(name).split("+")]
    if len(names) > 1 and not Path(name).exists():
        if not all(names):
            raise InputError(f"Expected names of encoders on both sides of every '+', got '{name}'.")
        return JoinedEncoder([_load(part, place, chosen, store) for part in names])
    return _load(os.fspath(name), place, chosen, store)


def _load(name: str, place: torch.device, chosen: torch.dtype | None, store: FeatureStore | None) -> Encoder:
    checkpoint = Checkpoint.open(locate(name))
    preprocessing = checkpoint.preprocessing()
    model = checkpoint.load()
    common = {"weights_hash": checkpoint.weights_hash(store), "device": place, "store": store}
    encoder: Encoder
    if hasattr(model, "get_image_features"):
        encoder = ClipEncoder(name, model, preprocessing, checkpoint=checkpoint, **common)
    elif hasattr(model, "get_text_features") or getattr(model, "main_input_name", "") != "pixel_values":
        raise InputError(
            f"Expected an encoder of images, got a '{checkpoint.model_type}' network; use a CLIP, SigLIP, DINO or ViT."
        )
    else:
        encoder = VisionEncoder(name, model, preprocessing, **common)
    return choose(encoder) if chosen is None else encoder.cast(chosen)


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UnknownNameError("compute type", name, DTYPES)
    return None if name == "auto" else getattr(torch, name)


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))  # several processes: a GPU each
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"Expected a device that this machine has ('auto', 'cpu', 'cuda', 'cuda:1', 'mps'), got '{device}'; "
            "'auto' takes the best there is."
        ) from error
    return place


def _store(cache: bool | str | os.PathLike[str] | FeatureStore) -> FeatureStore | None:
    if isinstance(cache, FeatureStore):
        return cache
    if cache is False:
        return None
    if cache is not True:
        return FeatureStore(Path(cache))
    store = FeatureStore()
    existing = next(p for p in (store.root, *store.root.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        # Somebody who never asked for a cache must not fail for want of one.
        warnings.warn(
            f"The default cache folder '{store.root}' cannot be written, so nothing is kept; "
            "set MODALIGN_CACHE to another folder.",
            stacklevel=3,
        )
        return None
    return store
