"""Base class of encoders: images to unit vectors and patch tokens, with a cache; sentences for text encoders."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.arrays import is_integer
from modalign.core.errors import FullCacheError, InputError, UnknownNameError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.core.progress import progress as showing
from modalign.core.renaming import CENTER, present_value, stacklevel_outside
from modalign.data.items import Items, load_items
from modalign.data.names import quoted
from modalign.encoders.features.extraction import extract, extract_cached
from modalign.encoders.features.store import FeatureStore
from modalign.encoders.preprocess import Preprocessing
from modalign.linalg.similarity import unit

VIEWS = ("center", "mirror")
_SMALL = 20_000_000  # below this number of parameters, the overhead per call dominates the run time


class Encoder(ABC):
    """Frozen pretrained network with its preprocessing; created by :func:`~modalign.load_encoder`.

    Attributes
    ----------
    name : str
        Name that it was loaded by; for a folder, the folder name without its path.
    spec : EncoderSpec
        Name, fingerprint, dimension and data type, stored with every vector.
    model : object
        Network, of ``transformers`` in most cases, in evaluation mode and without gradients.
    preprocessing : Preprocessing
        Conversion of an image to the input of the network.
    device, dtype : torch.device
        Device and data type of the computation.
    store : FeatureStore or None
        Cache of vectors, or None.
    batch_size : int
        Images per forward pass.
    """

    has_text: bool = False

    def __init__(
        self,
        name: str,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        weights_hash: str,
        device: torch.device,
        store: FeatureStore | None = None,
    ) -> None:
        self.name = name
        self.model: Any = model.to(device)  # has the parts of its kind
        self.preprocessing = preprocessing
        self.device, self.dtype = device, torch.float32
        self.store = store
        self.n_parameters = sum(p.numel() for p in model.parameters())
        on_gpu = device.type == "cuda"
        self.batch_size = 256 if on_gpu else 128 if self.n_parameters < _SMALL else 32
        self._weights_hash = weights_hash
        self._check_size()
        self.spec = EncoderSpec(name, "", self._width(), "float32", self._logit_scale())
        self.spec = replace(self.spec, fingerprint=self._fingerprint())

    @property
    def logit_scale(self) -> float | None:
        """Trained inverse temperature exp(s) of image-text similarities; None without a text tower."""
        return self.spec.logit_scale

    @property
    def device_name(self) -> str:
        """Name of the device, with the data type unless it is float32."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return name if self.dtype == torch.float32 else f"{name} in {self.spec.dtype}"

    def cast(self, dtype: torch.dtype) -> Self:
        """Return a copy with weights of another type and therefore another fingerprint."""
        if dtype == self.dtype:
            return self
        other = copy.copy(self)
        # What is copied is copied in its new type at once: the old one may be large.
        numbers = [t for t in (*self.model.parameters(), *self.model.buffers()) if t.is_floating_point()]
        memo: dict[int, Any] = {id(t): _like(t, t.detach().to(dtype)) for t in numbers}
        other.model = copy.deepcopy(self.model, memo).to(dtype)
        other.dtype = dtype
        other.spec = replace(self.spec, dtype=str(dtype).removeprefix("torch."))
        other.spec = replace(other.spec, fingerprint=other._fingerprint())
        return other

    def as_of(self, version: int) -> Self:
        """Return the encoder with the preprocessing of an earlier version of the library; shares the network."""
        other = copy.copy(self)
        other.preprocessing = replace(self.preprocessing, version=version)
        other.spec = replace(self.spec, fingerprint=other._fingerprint())
        return other

    @checked_arguments
    def embed_images(
        self,
        source: object,
        *,
        view: str = "center",
        tokens: bool = False,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Features:
        """Embed images as unit vectors.

        Cached vectors are not computed again. Images that cannot be decoded are left out and listed in ``quarantined``.
        A killed run can be repeated and continues from the cache. With the same batch size, threads and machine, the
        result is bitwise equal to that of an uninterrupted run; otherwise it is equal up to rounding.

        Parameters
        ----------
        source : object
            Any source of :func:`~modalign.load_items`, labeled or not.
        view : str, default="center"
            ``"center"`` is the preprocessing of the checkpoint, ``"mirror"`` the same flipped horizontally.
        tokens : bool, default=False
            Also return a unit vector per patch, (n, L, d). These are not cached and take n·L·d·4 bytes.
        batch_size : int or None, default=None
            Images per forward pass. Default: depends on the device and the size of the network.
        progress : bool or None, default=None
            Show a progress bar. Default: in a terminal only.

        Raises
        ------
        InputError
            No image could be embedded.
        """
        view = present_value("view", view, CENTER)
        if view not in VIEWS:
            raise UnknownNameError("view", str(view), ("center", "mirror"))
        batch_size = self.batch_size if batch_size is None else batch_size
        if not is_integer(batch_size) or batch_size < 1:
            raise InputError(f"Expected batch_size to be an integer of at least 1, got {batch_size!r}.")
        items = load_items(source)
        with showing(progress) if progress is not None else nullcontext():
            vectors, patches, reasons = self._extract(items, view, batch_size, tokens)
        left_out = items.left_out(reasons)
        if not len(vectors):
            listed = quoted([q.id for q in left_out], 3, details=[q.reason for q in left_out])
            raise InputError(f"Expected an image that can be decoded, got none: {listed}.")
        kept = [i for i in range(len(items)) if i not in reasons]
        return Features(
            vectors=vectors,
            ids=tuple(items.ids[i] for i in kept),
            labels=items.labels[kept],
            class_names=items.class_names,
            tokens=patches,
            spec=self.spec,
            quarantined=left_out,
            parts=tuple(items.parts[kept].tolist()) if items.division else (),
        )

    def _extract(
        self, items: Items, view: str, batch_size: int, tokens: bool
    ) -> tuple[np.ndarray, np.ndarray | None, dict[int, str]]:
        """Return vectors, tokens and images that could not be decoded; uses the store unless it is full."""
        if self.store is not None and not tokens:
            try:
                vectors, reasons = extract_cached(self, items, view, batch_size, self.store)
                return vectors, None, reasons
            except FullCacheError as error:
                warnings.warn(f"{error} These images are embedded without it.", stacklevel=stacklevel_outside())
        return extract(self, items, view, batch_size, tokens)

    def embed_texts(
        self,
        texts: Sequence[str] | Sequence[Sequence[str]],
        class_names: Sequence[str] | None = None,
        *,
        progress: bool | None = None,
    ) -> ClassText:
        """Embed sentences as unit vectors; only for encoders with a text tower (``has_text``)."""
        raise InputError(
            f"Encoder '{self.name}' has no text tower; use a vision-language one (CLIP, SigLIP) or learn from labels."
        )

    @torch.inference_mode()
    def encode(self, prepared: Sequence[np.ndarray], *, tokens: bool = False) -> tuple[Tensor, Tensor | None]:
        """Run one forward pass: unit float32 vectors (n, d) and tokens (n, L, d), on the device.

        Parameters
        ----------
        prepared : sequence of ndarray
            Images prepared by :meth:`Preprocessing.prepare`.
        tokens : bool, default=False
            Also return the patch tokens.
        """
        return self.encode_inputs(self.preprocessing.inputs(prepared, self.device, self.dtype), tokens=tokens)

    def encode_inputs(self, inputs: dict[str, Tensor], *, tokens: bool = False) -> tuple[Tensor, Tensor | None]:
        """The same of what the preprocessing made of a batch, in operations that can be recorded as a graph."""
        vectors, patches = self._forward(inputs, tokens)
        return unit(vectors.float()), None if patches is None else unit(patches.float())

    @abstractmethod
    def _forward(self, inputs: dict[str, Tensor], tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Return vectors (n, d) and, if requested, patch tokens (n, L, d), of any length and floating type."""

    @abstractmethod
    def _width(self) -> int:
        """d."""

    def _logit_scale(self) -> float | None:
        return None

    def _check_size(self) -> None:
        """Raise if the position embeddings of the network do not match the image size of the preprocessing."""
        config = getattr(self.model, "config", None)  # networks of other packages may have none
        vision = getattr(config, "vision_config", config)
        fixed = getattr(config, "model_type", None) in ("clip", "metaclip_2", "siglip", "vit")
        expected, got = getattr(vision, "image_size", None), self.preprocessing.crop or self.preprocessing.size
        if fixed and isinstance(expected, int) and self.preprocessing.resize != "none" and got != (expected, expected):
            raise InputError(
                f"Expected images of {expected} × {expected} pixels for '{self.name}', its preprocessor_config.json "
                f"makes {got[0]} × {got[1]}; the two files belong to different checkpoints."
            )

    def _fingerprint(self) -> str:
        """Return a SHA-256 over everything that affects a vector, independent of library versions."""
        card: dict[str, Any] = {
            "weights": self._weights_hash,
            "preprocessing": self.preprocessing.card(),
            "dtype": self.spec.dtype,
            "pooling": self._pooling(),
        }
        return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()

    def _pooling(self) -> str:
        """Name of the pooling, for the fingerprint."""
        return type(self).__name__

    def __repr__(self) -> str:
        kind = "image and text" if self.has_text else "image only"
        return f"{type(self).__name__}('{self.name}', {kind}, d={self.spec.dim}, {self.device_name})"


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """Return ``values`` as a parameter or a buffer, like ``tensor``."""
    return nn.Parameter(values, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
