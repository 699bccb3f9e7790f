"""Names of encoders: built-in, known on the hub, and of other packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError
from modalign.core.registration import Registry

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

_WEIGHTS = Path(__file__).parent / "weights"

EMBEDDED = {"tiny": _WEIGHTS / "tiny", "tiny-vision": _WEIGHTS / "tiny-vision", "tiny-scenes": _WEIGHTS / "tiny"}

IMAGE_TOWERS = {"tiny-scenes": _WEIGHTS / "tiny-scenes" / "model.safetensors"}
"""Tensors that replace some of those in the folder of an embedded encoder."""

KNOWN_ENCODERS: dict[str, str] = {
    "tiny": "embedded CLIP for digits, letters and shapes at 32 px, 1 M parameters; image and text, offline",
    "tiny-vision": "embedded self-supervised vision model at 32 px; image only, offline",
    "tiny-scenes": "tiny with an image tower whose patches know objects, for segmentation; offline",
    "openai/clip-vit-base-patch32": "CLIP ViT-B/32, 151 M parameters; the fastest of the real ones",
    "openai/clip-vit-base-patch16": "CLIP ViT-B/16, 150 M parameters; the usual one in the literature",
    "openai/clip-vit-large-patch14": "CLIP ViT-L/14, 428 M parameters",
    "openai/clip-vit-large-patch14-336": "CLIP ViT-L/14 at 336 px",
    "timm/resnet50_clip.openai": "CLIP RN50, 102 M parameters; 'RN50' for short",
    "timm/resnet101_clip.openai": "CLIP RN101, 120 M parameters; 'RN101' for short",
    "timm/resnet50x4_clip.openai": "CLIP RN50x4 at 288 px, 178 M parameters; 'RN50x4' for short",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "OpenCLIP ViT-B/32 trained on LAION-2B",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "OpenCLIP ViT-H/14 trained on LAION-2B, 986 M parameters",
    "facebook/metaclip-b32-400m": "MetaCLIP ViT-B/32",
    "facebook/metaclip-b16-fullcc2.5b": "MetaCLIP ViT-B/16",
    "facebook/metaclip-2-worldwide-huge-quickgelu": "MetaCLIP 2 ViT-H/14, many languages",
    "google/siglip-base-patch16-224": "SigLIP ViT-B/16, 203 M parameters",
    "google/siglip-so400m-patch14-384": "SigLIP SoViT-400M/14 at 384 px",
    "google/siglip2-base-patch16-224": "SigLIP 2 ViT-B/16, many languages",
    "google/siglip2-base-patch16-naflex": "SigLIP 2 ViT-B/16 at each image's own aspect ratio",
    "facebook/dinov2-small": "DINOv2 ViT-S/14, image only, 22 M parameters",
    "facebook/dinov2-base": "DINOv2 ViT-B/14, image only, 87 M parameters",
    "facebook/dinov2-large": "DINOv2 ViT-L/14, image only, 304 M parameters",
    "facebook/dinov2-with-registers-base": "DINOv2 ViT-B/14 with registers, image only",
    "facebook/dinov3-vits16-pretrain-lvd1689m": "DINOv3 ViT-S/16, image only; needs its license accepted on the hub",
    "facebook/dinov3-vitb16-pretrain-lvd1689m": "DINOv3 ViT-B/16, image only; needs its license accepted on the hub",
    "google/vit-base-patch16-224-in21k": "supervised ViT-B/16 of ImageNet-21k, image only",
}
"""Well-known names → description. Any other hub name or local folder of the same kinds works too."""

SHORT_NAMES: dict[str, str] = {
    **{f"RN{size}": f"timm/resnet{size}_clip.openai" for size in ("50", "101", "50x4", "50x16", "50x64")},
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
"""OpenAI's names of its CLIPs → where they are on the hub."""


@checked_arguments
def register_encoder(name: str, source: str | os.PathLike[str] | Callable[..., Encoder]) -> None:
    """Register an encoder of your own under a name, for use in all functions that take an encoder.

    The registration is valid in this process. For the command line, define an entry point of the group
    ``modalign.encoders`` in your package. A registered name has priority over a folder of that name.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores.
    source : str, Path or callable
        A folder in the format of Hugging Face or open_clip, or a function ``source(*, device, store)`` that returns an
        :class:`~modalign.encoders.base.Encoder` in float32 on the ``torch.device`` ``device``, which caches
        vectors in the :class:`~modalign.FeatureStore` ``store`` unless it is None.

    Raises
    ------
    InputError
        The name is taken, the folder does not exist, or ``source`` is neither a folder nor a function.

    Examples
    --------
    >>> import modalign as ma
    >>> def other_tiny(*, device, store):
    ...     return ma.load_encoder("tiny", device=device, cache=store or False, dtype="float32")
    >>> ma.register_encoder("other_tiny", other_tiny)
    >>> ma.load_encoder("other_tiny").has_text
    True
    """
    OTHER_ENCODERS.register(name, source)


def _checked(source: object) -> Any:
    """A folder as an absolute path, a function as it is."""
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source).expanduser().absolute()
        if not folder.is_dir():
            raise InputError(f"expected the folder of an encoder, '{folder}' is none.")
        return folder
    if not callable(source):
        raise InputError(f"expected a folder or a function that returns an encoder, got {source!r:.80}.")
    return source


OTHER_ENCODERS = Registry("encoder", "modalign.encoders", KNOWN_ENCODERS, _checked)
"""Encoders of other packages."""
