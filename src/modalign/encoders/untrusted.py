"""Loading of networks and tokenizers from untrusted folders with ``transformers``.

The files of a folder determine numbers, not code. ``transformers`` gets a configuration and tensors, or a temporary
folder with checked files, not the folder itself. Entries that would import a package, download a kernel or a backbone,
unpickle a file or follow a path are removed (:func:`without_choices`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import OutOfMemoryError, Tensor, float32, nn

from modalign.core.errors import InputError
from modalign.core.files import read_bytes, read_json, write
from modalign.encoders.quiet import quiet, silent_native_code
from modalign.encoders.towers.clip_network import ClipNetwork

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = (
    # images and sentences
    *("clip", "metaclip_2", "siglip", "siglip2", "altclip", "chinese_clip", "clipseg", "align"),
    # images
    *("clip_vision_model", "siglip_vision_model", "siglip2_vision_model"),
    *("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext"),
    *("vit", "deit", "beit", "data2vec-vision", "vit_msn", "ijepa", "swin", "swinv2", "hiera", "pvt", "pvt_v2"),
    *("convnext", "convnextv2", "resnet", "regnet", "efficientnet", "mobilenet_v2", "mobilevit"),
    *("levit", "focalnet", "poolformer", "cvt"),
)
"""``model_type`` of the networks that are loaded. None of them runs code from elsewhere or fetches parts."""

TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("vocab.txt",))
_TOKENIZER_FILES = (
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "special_tokens_map.json",
    "added_tokens.json",
)
_CONFIG_LIMIT = 2**24  # bytes
_TOKENIZER_LIMIT = 2**27
_CHOICES = re.compile(
    r"^_|implementation|kernel|auto_map|quantization|compression|backbone|name_or_path|pipeline|dtype|fusion|adapter"
    r"|transformers_weights|trust|tokenizer_class|_file$|^output_|return_dict|torchscript"
)
_COUNTS = re.compile(r"layer|depth|block")


def read_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of an encoder."""
    content = read_json(path, "a JSON file", _CONFIG_LIMIT)
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object in '{path}', got {type(content).__name__}.")
    return content


def without_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """Remove entries that select code, files or the form of outputs from a configuration, at any depth."""
    return {
        key: without_choices(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not _CHOICES.search(key)
    }


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Context manager that converts any exception to an InputError that begins with ``sentence``."""
    try:
        yield
    except (InputError, MemoryError, OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a parser in Rust panics with one that is no Exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{sentence}: {reason[:300]}") from None


def read_tensors(weights: Sequence[Path], folder: Path) -> dict[str, Tensor]:
    """Read the tensors of safetensors files by name."""
    from safetensors.torch import load_file

    with refusing(f"The checkpoint in '{folder}' cannot be loaded"):
        return {name: tensor for path in weights for name, tensor in load_file(path).items()}


def load_network(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """Create the network of a configuration with the given tensors, in float32.

    Raises
    ------
    InputError
        The model type is not supported, or weights are missing or have other shapes.
    """
    with refusing(f"The checkpoint in '{folder}' cannot be loaded"):
        check_counts(config, len(tensors))
        if (own := ClipNetwork.of(config, tensors)) is not None:
            return own
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    kind = config["model_type"]
    if kind not in KINDS or kind not in CONFIG_MAPPING:
        raise InputError(
            f"Expected an encoder of images of a supported kind (clip, siglip, dinov2, vit, …), got model_type "
            f"'{kind}' in '{folder}'."
        )
    # The pooler of a supervised ViT is left out of most checkpoints; its class token serves.
    extra: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
    with refusing(f"The checkpoint in '{folder}' cannot be loaded"), quiet():
        described = CONFIG_MAPPING[kind].from_dict(without_choices(config))
    return filled(MODEL_MAPPING[type(described)], described, tensors, folder, **extra)


def filled(network: Any, config: Any, tensors: Mapping[str, Tensor], folder: Path, **extra: Any) -> nn.Module:
    """Create a network of ``transformers`` in float32, with all weights from ``tensors``.

    Parameters
    ----------
    network : object
        Class of the network.
    config : object
        Configuration of the network.
    tensors : mapping of str to Tensor
        Weights by name.
    folder : Path
        Folder, for messages.
    """
    with refusing(f"The checkpoint in '{folder}' cannot be loaded"), quiet():
        model, report = network.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            attn_implementation="sdpa" if getattr(network, "_supports_sdpa", False) else "eager",
            dtype=float32,
            output_loading_info=True,
            **extra,
        )
    wrong = sorted({*report["missing_keys"], *(m[0] for m in report.get("mismatched_keys", ()))})
    if wrong:
        raise InputError(
            f"Expected all weights of a '{config.model_type}' network in '{folder}', {len(wrong)} are missing "
            f"('{wrong[0]}', …) and would be random; the file belongs to another config or is incomplete."
        )
    return model


def check_counts(config: Mapping[str, Any], tensors: int) -> None:
    """Raise if the configuration has more layers than there are tensors, before they are created."""
    for key, value in config.items():
        if isinstance(value, dict):
            check_counts(value, tensors)
        numbers = value if isinstance(value, list) else [value]
        if _COUNTS.search(key) and any(isinstance(n, int) and n > tensors for n in numbers):
            raise InputError(f"Expected {key} of at most {tensors}, the number of tensors in the weights, got {value}.")


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the tokenizer files of a folder in a fixed order."""
    return [path for pattern in _TOKENIZER_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def read_tokenizer_file(path: Path) -> bytes:
    """Read one of :func:`tokenizer_files`, with a size limit."""
    return read_bytes(path, "a file of a tokenizer", _TOKENIZER_LIMIT)


def load_tokenizer(folder: Path, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder whose network has the given configuration.

    Raises
    ------
    InputError
        The files are damaged, too large, or name a class that is not a tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    sentence = f"The tokenizer in '{folder}' cannot be loaded"
    with refusing(sentence), quiet(), silent_native_code(), _checked_copy(folder, config) as copy:
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(copy, **options)
        except ImportError:  # its own class needs sentencepiece; tokenizer.json is equivalent and does not
            tokenizer = PreTrainedTokenizerFast.from_pretrained(copy, **options)
        tokenizer(["a photo of a cat."], truncation=True, max_length=int(tokenizer.model_max_length))
        return tokenizer


@contextmanager
def _checked_copy(folder: Path, config: Mapping[str, Any]) -> Iterator[Path]:
    """Context manager of a temporary folder with the checked files of a tokenizer."""
    with TemporaryDirectory(prefix="modalign-") as name:
        copy = Path(name)
        for path in tokenizer_files(folder):
            if path.name != "tokenizer_config.json":
                (copy / path.name).write_bytes(read_tokenizer_file(path))
        write(copy / "config.json", json.dumps(without_choices(config)))
        if (folder / "tokenizer_config.json").is_file():
            described = read_object(folder / "tokenizer_config.json")
            chosen = _tokenizer_class(described.get("tokenizer_class"))
            write(copy / "tokenizer_config.json", json.dumps(without_choices(described) | chosen))
        yield copy


def _tokenizer_class(name: object) -> dict[str, str]:
    """Return the name of the tokenizer class of ``transformers``, if it is valid."""
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if name is None:
        return {}
    found = tokenizer_class_from_name(name) if isinstance(name, str) else None
    if found is not None and not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
        raise InputError(f"Expected the name of a tokenizer as tokenizer_class, got '{name}'.")
    return {"tokenizer_class": str(name)}
