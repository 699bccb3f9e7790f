"""Checkpoint folder in Hugging Face format: validation, hash and loading.

Only safetensors weights are read, so loading executes no code. A checkpoint with a missing weight is refused, because
transformers would initialize it randomly.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from modalign.core.errors import FullCacheError, InputError
from modalign.core.files import open_regular
from modalign.core.renaming import stacklevel_outside
from modalign.data.blobs import file_identity
from modalign.encoders.features.store import FeatureStore, is_settled
from modalign.encoders.preprocess import Preprocessing
from modalign.encoders.untrusted import (
    TOKENIZERS,
    load_network,
    load_tokenizer,
    read_object,
    read_tensors,
    read_tokenizer_file,
    tokenizer_files,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Entries about the origin of a config, which do not affect the network.
_VOLATILE = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "_commit_hash")


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint on disk.

    Attributes
    ----------
    folder : Path
        Folder of the checkpoint.
    config : dict
        The content of its ``config.json``.
    weights : tuple of Path
        Its safetensors files, in order.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read a checkpoint folder; the error message names missing files."""
        if not (folder / "config.json").is_file():
            raise InputError(
                f"Expected the folder of an encoder, got '{folder}' without a config.json; give the folder that holds "
                "config.json and model.safetensors, or open_clip_config.json and open_clip_model.safetensors."
            )
        config = read_object(folder / "config.json")
        if not isinstance(config.get("model_type"), str):
            raise InputError(f"Expected a model_type (which network it is) in '{folder / 'config.json'}', got none.")
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            shards = read_object(index).get("weight_map")
            shards = list(shards.values()) if isinstance(shards, dict) else []
            if not all(isinstance(name, str) and Path(name).name == name for name in shards):
                raise InputError(f"Expected names of files beside it in '{index}', got something else.")
            names = sorted(set(shards))
            absent = [name for name in names if not (folder / name).is_file()]
            if absent or not names:
                wanted = absent[0] if absent else "weight files"
                raise InputError(f"Expected '{wanted}' in '{folder}', which its index lists; got none.")
            weights = tuple(folder / name for name in names)
        else:
            weights = (folder / "model.safetensors",)
        check_weights(folder, weights)
        return cls(folder, config, weights)

    def with_tensors(self, path: Path) -> Self:
        """The checkpoint with the tensors of another safetensors file in place of its own of the same names."""
        check_weights(path.parent, (path,))
        return replace(self, weights=(*self.weights, path))

    @property
    def model_type(self) -> str:
        """The kind of network, such as ``"clip"`` or ``"dinov2"``."""
        return self.config["model_type"]

    def weights_hash(self, store: FeatureStore | None) -> str:
        """SHA-256 over the weights and the relevant entries of the config; hashes of unchanged files are cached."""
        stable = {key: value for key, value in self.config.items() if key not in _VOLATILE}
        digest = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
        for path in self.weights:
            digest.update(_content(path, store))
        return digest.hexdigest()

    def tokenizer_hash(self) -> str:
        """SHA-256 over the files of the tokenizer."""
        digest = hashlib.sha256()
        for path in tokenizer_files(self.folder):
            digest.update(hashlib.sha256(read_tokenizer_file(path)).digest())
        return digest.hexdigest()

    def load(self) -> nn.Module:
        """Load the network in float32, in evaluation mode, without gradients."""
        return self.settled(load_network(self.config, read_tensors(self.weights, self.folder), self.folder))

    @staticmethod
    def settled(model: nn.Module) -> nn.Module:
        """Convert ``model`` to float32 in evaluation mode without gradients, with a copy of its memory."""
        model.float().eval().requires_grad_(False)
        for tensor in (*model.parameters(), *model.buffers()):
            # What was read may be a memory map: a write to the file would change a network in use.
            tensor.data = tensor.data.clone()
        return model

    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the folder, or with a warning the convention of the model type."""
        for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
            path = self.folder / name
            if path.is_file():
                content = read_object(path)
                config = content.get(part) if part else content
                if config:
                    return Preprocessing.read(config, f"'{path}'")
        vision = self.config.get("vision_config")
        vision = vision if isinstance(vision, dict) else self.config
        usual = Preprocessing.of_model(self.model_type, vision.get("image_size"), vision.get("patch_size"))
        if usual is None:
            raise InputError(
                f"Expected a preprocessor_config.json in '{self.folder}' (size, mean and deviation of the images), got "
                f"none, and '{self.model_type}' has no usual one; copy it from where the weights came from."
            )
        warnings.warn(
            f"'{self.folder}' has no preprocessor_config.json; images are prepared as is usual for "
            f"'{self.model_type}'. Copy the file there if the network was trained otherwise.",
            stacklevel=stacklevel_outside(),
        )
        return usual

    def has_tokenizer(self) -> bool:
        """Whether the folder contains a tokenizer."""
        return any(all((self.folder / name).is_file() for name in names) for names in TOKENIZERS)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        if not self.has_tokenizer():
            raise InputError(
                f"Expected a tokenizer in '{self.folder}' (tokenizer.json, or vocab.json and merges.txt), got none; "
                "copy it from where the weights came from. Images can be embedded without it."
            )
        return load_tokenizer(self.folder, self.config)


def check_weights(folder: Path, weights: Sequence[Path]) -> None:
    """Raise if the weights are missing or are a Git LFS pointer."""
    if not weights[0].is_file():
        pickled = sorted(p.name for p in folder.glob("*.bin")) or sorted(p.name for p in folder.glob("*.pt*"))
        raise InputError(
            f"Expected {weights[0].name} in '{folder}', got "
            + (
                f"only '{pickled[0]}', a pickle, which can run code when it is read; convert it to safetensors on a "
                "machine that trusts it."
                if pickled
                else "no weights; put the file there."
            )
        )
    for path in weights:
        with open_regular(path, "weights") as file:
            if file.read(23) == b"version https://git-lfs":
                raise InputError(f"Expected weights in '{path}', got a Git LFS pointer; run 'git lfs pull' there.")


def _content(path: Path, store: FeatureStore | None) -> bytes:
    """Return the SHA-256 of a file, cached by the identity of the file."""
    if store is None:
        return _hash(path)
    identity = file_identity(str(path.resolve()))
    known = None
    with suppress(FullCacheError), store.files() as files:
        known = files.contents([identity])[0]
        if known is None:
            began = time.time_ns()
            known = _hash(path)
            if identity is not None and is_settled(identity, began) and identity == file_identity(str(path.resolve())):
                files.record([(identity, known)])
    return known or _hash(path)


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
