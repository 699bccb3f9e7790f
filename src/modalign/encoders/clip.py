"""Vision-language encoders: CLIP, MetaCLIP, MetaCLIP 2, SigLIP, SigLIP 2, and models of the same structure."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError
from modalign.core.features import ClassText
from modalign.core.progress import progress as showing
from modalign.core.progress import track
from modalign.core.renaming import stacklevel_outside
from modalign.data.names import quoted
from modalign.encoders.base import Encoder
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.features.vector_table import remaking
from modalign.encoders.quiet import quiet
from modalign.encoders.towers.resnet import RESNET
from modalign.encoders.untrusted import refusing
from modalign.linalg.similarity import unit

_CAUSAL = ("clip", "metaclip_2", RESNET)
_WHOLE = ("siglip", "siglip2")  # trained on sentences padded to the full context, without a mask
_OPEN = (
    "clip",
    "metaclip_2",
    *_WHOLE,
    "altclip",
    "chinese_clip",
    "clipseg",
)  # have vision_model (and visual_projection)
_PREFIX = {"siglip": 0, "siglip2": 0}  # tokens before the patches; one class token elsewhere


class ClipEncoder(Encoder):
    """Encoder of images and sentences into one space, so that classes can be defined by their names.

    The text tower of CLIP is causal: tokens after the end-of-text token do not affect it. A batch of sentences is
    therefore padded to its longest sentence instead of 77 tokens, with equal results.
    """

    has_text = True

    def __init__(self, *args: Any, checkpoint: Checkpoint, **kwargs: Any) -> None:
        self._checkpoint = checkpoint
        super().__init__(*args, **kwargs)

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the checkpoint (``transformers``), loaded on first use."""
        tokenizer = self._checkpoint.tokenizer()
        vocabulary = self.model.config.text_config.vocab_size
        size = max(len(tokenizer), *(number + 1 for number in tokenizer.get_vocab().values()))
        if size > vocabulary:
            raise InputError(
                f"Expected a tokenizer of at most {vocabulary} tokens in '{self._checkpoint.folder}', got {size}; it "
                "belongs to another checkpoint."
            )
        return tokenizer

    @property
    def reads_sentences(self) -> bool:
        """Whether the checkpoint has a tokenizer."""
        return self._checkpoint.has_tokenizer()

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of a sentence, including start and end tokens."""
        return min(int(self.model.config.text_config.max_position_embeddings), int(self.tokenizer.model_max_length))

    @checked_arguments
    def embed_texts(
        self,
        texts: Sequence[str] | Sequence[Sequence[str]],
        class_names: Sequence[str] | None = None,
        *,
        progress: bool | None = None,
    ) -> ClassText:
        """Embed sentences as unit vectors; each distinct sentence is computed once and cached.

        Parameters
        ----------
        texts : sequence of str or sequence of sequence of str
            C sentences, for a result (C, d); or C lists of sentences, for a result (C, T, d), where T is the longest
            list and shorter lists are padded with zero rows.
        class_names : sequence of str or None, default=None
            C names. Default: the sentences, or the first of each list.
        progress : bool or None, default=None
            Show a bar or not; by default in a terminal.

        Warns
        -----
        UserWarning
            Sentences longer than the context were truncated.
        """
        nested = _check(texts)
        rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        names = tuple(row[0] for row in rows) if class_names is None else tuple(class_names)
        if len(names) != len(rows):
            raise InputError(f"Expected one class name for each of the {len(rows)} classes, got {len(names)}.")
        distinct = list(dict.fromkeys(sentence for row in rows for sentence in row))
        with showing(progress) if progress is not None else nullcontext():
            vector_of = dict(zip(distinct, self._cached(distinct), strict=True))
        table = np.zeros((len(rows), max(map(len, rows)), self.spec.dim), dtype=np.float32)
        for c, row in enumerate(rows):
            for t, sentence in enumerate(row):
                table[c, t] = vector_of[sentence]
        return ClassText(table if nested else table[:, 0], names, tuple(rows), self.spec)

    def encode_sentences(self, sentences: list[str]) -> Tensor:
        """Embed sentences as unit vectors (n, d) on the device, without the cache."""
        return self._encode_ids(self._tokenize(sentences))

    @remaking
    def _cached(self, sentences: list[str]) -> np.ndarray:
        """Return (n, d) vectors of distinct sentences, with the cache."""
        ids = self._tokenize(sentences)
        if self.store is None:
            return self._encode_ids(ids).cpu().numpy()
        # The tokenizer decides the vectors of sentences but not of images, so it is part of this key alone.
        key = hashlib.sha256((self.spec.fingerprint + self._checkpoint.tokenizer_hash()).encode()).hexdigest()
        contents = [hashlib.sha256(sentence.encode("utf-8", "surrogatepass")).digest() for sentence in sentences]
        with self.store.table(key, "text", self.spec.dim) as table:
            here = table.find(contents)
            new = [i for i, content in enumerate(contents) if content not in here]
            if new:
                vectors = self._encode_ids([ids[i] for i in new])
                table.add([contents[i] for i in new], vectors.cpu().numpy())
            return table.read(contents)

    def _tokenize(self, sentences: list[str]) -> list[list[int]]:
        """Return the token ids of each sentence, truncated to the context, without padding."""
        with quiet(), refusing(f"The tokenizer of '{self.name}' fails on a sentence"):
            ids = self.tokenizer(sentences)["input_ids"]
            limit = self.context_length
            long = [sentence for sentence, tokens in zip(sentences, ids, strict=True) if len(tokens) > limit]
            if long:
                ids = self.tokenizer(sentences, truncation=True, max_length=limit)["input_ids"]
        if long:
            warnings.warn(
                f"{len(long)} of {len(sentences)} sentences are longer than the {limit} tokens of '{self.name}' and "
                f"were cut: {quoted([s if len(s) < 60 else s[:57] + '…' for s in long], 3)}.",
                stacklevel=stacklevel_outside(),
            )
        return ids

    @torch.inference_mode()
    def _encode_ids(self, ids: list[list[int]]) -> Tensor:
        """Return unit vectors (n, d) of tokenized sentences; sentences of similar length share a batch."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = torch.empty(len(ids), self.spec.dim, device=self.device)
        size = max(self.batch_size, 64)
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        for batch in track(batches, f"Embedding sentences on {self.device_name}", unit="batches"):
            inputs = self._text_inputs([ids[i] for i in batch])
            vectors[batch] = unit(pooled(self.model.get_text_features(**inputs)).float())
        return vectors

    def _text_inputs(self, ids: list[list[int]]) -> dict[str, Tensor]:
        whole = self.model.config.model_type in _WHOLE
        length = self.context_length if whole else max(map(len, ids))
        pad = self.tokenizer.pad_token_id or 0
        left = whole and self.tokenizer.padding_side == "left"
        fill = [[pad] * (length - len(tokens)) for tokens in ids]
        rows = [f + t if left else t + f for t, f in zip(ids, fill, strict=True)]
        table = torch.tensor(rows, device=self.device)
        if whole or self.model.config.model_type in _CAUSAL:
            return {"input_ids": table}
        lengths = torch.tensor([len(tokens) for tokens in ids], device=self.device)
        mask = torch.arange(length, device=self.device) < lengths[:, None]
        return {"input_ids": table, "attention_mask": mask.long()}

    def _forward(self, inputs: dict[str, Tensor], tokens: bool) -> tuple[Tensor, Tensor | None]:
        if not tokens:
            return pooled(self.model.get_image_features(**inputs)), None
        kind = self.model.config.model_type
        if kind == RESNET:
            positions = self.model.visual(**inputs, tokens=True)
            return positions[:, 0], positions[:, 1:]
        if kind not in _OPEN:
            raise InputError(f"Patch tokens of a '{kind}' network are not supported; use CLIP, SigLIP or DINO.")
        tower = self.model.vision_model
        output = tower(*inputs.values())  # by position: versions of transformers name the mask of NaFlex differently
        patches = output.last_hidden_state[:, _PREFIX.get(kind, 1) :]
        if hasattr(self.model, "visual_projection"):
            # As for the class token: layer norm, then into the joint space.
            project = self.model.visual_projection
            return project(output.pooler_output), project(tower.post_layernorm(patches))
        if "pixel_attention_mask" in inputs:
            patches = patches * inputs["pixel_attention_mask"][..., None]
        return output.pooler_output, patches

    def _width(self) -> int:
        config = self.model.config
        if hasattr(self.model, "visual_projection"):
            return int(self.model.visual_projection.out_features)
        return int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)

    def _logit_scale(self) -> float | None:
        scale = getattr(self.model, "logit_scale", None)
        return None if scale is None else float(scale.detach().float().exp().mean())


def pooled(output: Any) -> Tensor:
    """Return the vectors in the output of ``get_image_features`` or ``get_text_features``.

    transformers 4 returns a tensor; transformers 5 an output object with ``pooler_output``.
    """
    return output if isinstance(output, Tensor) else output.pooler_output


def _check(texts: object) -> bool:
    """Return whether ``texts`` is nested; raise if it is neither a list of sentences nor a list of lists."""
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise InputError(f"Expected a list of sentences, or one list of sentences per class, got {texts!r:.60}.")
    nested = not isinstance(texts[0], str)
    for i, row in enumerate(texts):
        sentences = row if nested and not isinstance(row, str) and isinstance(row, Sequence) else [row]
        sound = bool(sentences) and all(isinstance(s, str) and s.strip() for s in sentences)
        if not sound or isinstance(row, str) == nested:
            raise InputError(
                f"Expected {'a list of' if nested else 'one'} non-empty sentence{'s' if nested else ''} for class {i}, "
                f"got {row!r:.60}."
            )
    return nested
