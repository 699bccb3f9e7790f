"""Loading of encoders by name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import (
    CacheError,
    FullCacheError,
    InputError,
    ModalignError,
    UnavailableError,
    UnknownNameError,
    argument,
)
from modalign.core.features import EncoderSpec
from modalign.core.files import check_writable, local_path
from modalign.core.registration import canonical_name
from modalign.core.renaming import stacklevel_outside
from modalign.encoders.base import Encoder
from modalign.encoders.catalog import folder_of, is_open_clip, locate
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.features.extraction import finite_vectors
from modalign.encoders.features.store import FeatureStore
from modalign.encoders.joined import JoinedEncoder
from modalign.encoders.openclip.openclip_checkpoint import OpenClipCheckpoint
from modalign.encoders.precision import choose
from modalign.encoders.preprocess import VERSION
from modalign.encoders.registry import EMBEDDED, IMAGE_TOWERS, OTHER_ENCODERS
from modalign.encoders.untrusted import refusing
from modalign.encoders.vision import VisionEncoder

DTYPES = ("auto", "float32", "bfloat16", "float16")


@checked_arguments
def load_encoder(
    name: str | os.PathLike[str] = "tiny",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    cache: bool | str | os.PathLike[str] | FeatureStore = True,
) -> Encoder | JoinedEncoder:
    """Load a pretrained encoder of images, and of sentences for vision-language models.

    Parameters
    ----------
    name : str or os.PathLike, default="tiny"
        ``"tiny"``, ``"tiny-vision"`` or ``"tiny-scenes"``, which are part of the package; a local folder in Hugging
        Face format (``config.json``, ``model.safetensors``, ``preprocessor_config.json``, tokenizer files) or in that
        of open_clip (``open_clip_config.json``, ``open_clip_model.safetensors``, tokenizer files); or a name on the hub
        such as ``"openai/clip-vit-base-patch16"``, optionally with ``@revision``; or an OpenAI CLIP name such as
        ``"RN50"``; or a name registered with :func:`~modalign.register_encoder` or provided by an installed package.
        See ``KNOWN_ENCODERS``. Names joined by plus signs, ``"tiny-vision+tiny"``, return a
        :class:`~modalign.encoders.joined.JoinedEncoder`, which concatenates their vectors.
    device : str or torch.device, default="auto"
        ``"auto"`` (CUDA, else MPS, else CPU) or a torch device.
    dtype : str or torch.dtype, default="auto"
        ``"auto"`` uses half precision if it is at least 1.3 times faster on this machine and the vectors agree (cosine
        ≥ 0.999); the decision is cached. Or ``"float32"``, ``"bfloat16"``, ``"float16"``.
    cache : bool, str, os.PathLike or FeatureStore, default=True
        Cache of vectors: True for the default folder, a folder, or False for no cache.

    Raises
    ------
    UnknownNameError
        There is no such encoder; the message suggests the nearest name.
    UnavailableError
        The encoder is not on this machine and cannot be downloaded.
    InputError
        The checkpoint is incomplete or not supported, or requires running code or pickles.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> encoder = ma.load_encoder("tiny")
    >>> encoder.embed_images(digits).vectors.shape
    (30, 128)
    >>> encoder.embed_texts([["a photo of a cat."], ["a photo of a dog."]]).vectors.shape
    (2, 1, 128)
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"Expected an encoder by name or as the path of its folder, got {type(name).__name__}.")
    given = os.fspath(name)  # joined encoders and addresses are no paths
    return _open(
        os.fspath(local_path(given)) if given.startswith("~") else given,
        _device(device),
        _dtype(dtype),
        _store(cache),
        fetch=True,
    )


def find_encoder(
    spec: EncoderSpec,
    *,
    device: str | torch.device = "auto",
    cache: bool | str | os.PathLike[str] | FeatureStore = True,
) -> Encoder | JoinedEncoder:
    """Find the encoder of a saved model or a features file on this machine.

    The encoder is searched at the location that the cache has for the fingerprint, and then by its name: built in, a
    local folder, or in the cache of the hub. Nothing is downloaded, because the file may be untrusted. The encoder has
    the version of the preprocessing that the file was made with.

    Parameters
    ----------
    spec : EncoderSpec
        Identity of the encoder in the file.
    device, cache : str or torch.device, default="auto"
        As for :func:`load_encoder`.

    Raises
    ------
    UnavailableError
        The encoder is not on this machine; the message explains how to load it explicitly.
    EncoderMismatchError
        The encoder of this name on this machine is a different one.
    """
    place, dtype, store = _device(device), _dtype(spec.dtype), _store(cache)
    remembered = None if store is None else store.encoder_location(spec.fingerprint)
    on_network = spec.name.startswith(("//", "\\\\"))  # Windows would try to log in at such a path
    namesake = None
    for name in dict.fromkeys(filter(None, (remembered, None if on_network else spec.name))):
        try:
            found = _open(name, place, dtype, store, fetch=False)
        except CacheError:
            raise
        except ModalignError:
            continue
        for version in range(VERSION, 0, -1):
            encoder = found.as_of(version)
            if encoder.spec.fingerprint == spec.fingerprint:
                return encoder
        namesake = found.spec
    if namesake is not None:
        spec.require(namesake)
    way_out = f"give {argument('encoder', repr(spec.name))} to fetch it if you trust it, or the path of its folder"
    raise UnavailableError(
        f"Expected encoder '{spec.name}' ({spec.fingerprint[:12]}) on this machine, got none; nothing is fetched for "
        f"a name in a file; {way_out}."
    )


def _open(
    name: str, place: torch.device, dtype: torch.dtype | None, store: FeatureStore | None, *, fetch: bool
) -> Encoder | JoinedEncoder:
    """Load one encoder, or several with names joined by plus signs, and record their locations."""
    names = [part.strip() for part in name.split("+")]
    if len(names) < 2 or folder_of(name) is not None:
        names = [name]
    if not all(names):
        raise InputError(f"Expected names of encoders on both sides of every '+', got '{name}'.")
    parts = [_load(part, place, dtype, store, fetch) for part in names]
    encoder = JoinedEncoder(parts) if len(parts) > 1 else parts[0]
    folders = [folder_of(part) for part in names]
    if store is not None and any(folders):
        locations = [part if at is None else str(at.resolve()) for part, at in zip(names, folders, strict=True)]
        with suppress(FullCacheError):
            store.record_encoder(encoder.spec.fingerprint, "+".join(locations))
    return encoder


def _load(
    text: str, place: torch.device, chosen: torch.dtype | None, store: FeatureStore | None, fetch: bool
) -> Encoder:
    if text in OTHER_ENCODERS:
        text = canonical_name(text)
        if callable(factory := OTHER_ENCODERS.get(text)):
            return _in_type(_made(text, factory, place, store), chosen)
    folder = locate(text, fetch=fetch)
    checkpoint = OpenClipCheckpoint.open(folder) if is_open_clip(folder) else Checkpoint.open(folder)
    if text in IMAGE_TOWERS:
        checkpoint = checkpoint.with_tensors(IMAGE_TOWERS[text])
    preprocessing = checkpoint.preprocessing()
    model = checkpoint.load()
    # A path may contain private names, and the name is part of shared files.
    own = folder_of(text)
    name = text if own is None else own.resolve().name
    common: dict[str, Any] = {"weights_hash": checkpoint.weights_hash(store), "device": place, "store": store}
    encoder: Encoder
    if hasattr(model, "get_image_features"):
        encoder = ClipEncoder(name, model, preprocessing, checkpoint=checkpoint, **common)
    else:
        encoder = VisionEncoder(name, model, preprocessing, **common)
    if text not in EMBEDDED:
        _try(encoder)
    return _in_type(encoder, chosen)


def _in_type(encoder: Encoder, chosen: torch.dtype | None) -> Encoder:
    return choose(encoder) if chosen is None else encoder.cast(chosen)


def _made(name: str, factory: Callable[..., Any], place: torch.device, store: FeatureStore | None) -> Encoder:
    """Create, name and test an encoder by a function of another package."""
    try:
        encoder = factory(device=place, store=store)
    except ModalignError:
        raise
    except Exception as error:  # foreign code may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"The encoder '{name}' of another package cannot be loaded: {reason}") from error
    if not isinstance(encoder, Encoder):
        raise InputError(f"Expected an Encoder from the function of '{name}', got {type(encoder).__name__}.")
    encoder.name, encoder.spec = name, replace(encoder.spec, name=name)
    _try(encoder)
    return encoder


def _try(encoder: Encoder) -> None:
    """Run one image through an untrusted network, whose files may be inconsistent."""
    with refusing(f"Expected a network and a preprocessor_config.json that fit each other in '{encoder.name}'"):
        vectors, _ = encoder.encode([encoder.preprocessing.prepare(Image.new("RGB", (64, 48), "gray"))])
        found = finite_vectors(encoder, vectors)
    if found.shape != (1, encoder.spec.dim):
        raise InputError(f"Expected one vector of width {encoder.spec.dim} of '{encoder.name}', got {found.shape}.")


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
    except (RuntimeError, AssertionError, TypeError):
        usable = [name for name in ("auto", *_usable_devices()) if name != str(device)]
        raise InputError(
            f"Expected a device that this machine has ({', '.join(usable)}), got '{device}'; 'auto' takes the best "
            "there is."
        ) from None
    return place


def _usable_devices() -> list[str]:
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def _store(cache: bool | str | os.PathLike[str] | FeatureStore) -> FeatureStore | None:
    if isinstance(cache, FeatureStore):
        return cache
    if cache is False:
        return None
    if cache is not True:
        return FeatureStore(Path(cache))
    try:
        store = FeatureStore()
        check_writable(store.root, folder=True)
    except InputError as error:  # without an explicit cache, a missing cache is no error
        warnings.warn(
            f"{error} Nothing is kept in a cache; set MODALIGN_CACHE to another folder.",
            stacklevel=stacklevel_outside(),
        )
        return None
    return store
