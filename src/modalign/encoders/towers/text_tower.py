"""Text tower of CLIP for tuning: learnable prompts at every layer, without redundant computation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from modalign.core.errors import InputError
from modalign.encoders.towers._attention import packed_attention
from modalign.encoders.towers._blocks import Affine, Norm, TransformerBlock, causal_attention
from modalign.encoders.towers._layered import Layered
from modalign.encoders.towers._packing import Packing, Queries, pack
from modalign.encoders.towers._prompting import validate_prompts
from modalign.encoders.towers.resnet import RESNET
from modalign.encoders.towers.sentences import Sentences, TextOutput

_CAUSAL = ("clip", "metaclip_2", RESNET)
STORED = 16  # times the size of its input that a layer stores for the backward pass
MOST_STORED = 4 * 2**30  # bytes on a CPU


class TextTower(Layered):
    """Frozen causal text tower with prompt slots at every layer.

    Two optimizations leave results and gradients unchanged up to rounding. Positions after end-of-text do not affect it
    and are not computed. Tokens before the first difference between the classes (start, prompts, words such as "a photo
    of a") are computed once per layer and prompt set, and all classes attend to their keys and values. The cost
    decreases from G·K·77 tokens to G·(prefix + Σ own tokens). The last layer computes end-of-text tokens only, unless
    all are requested; class-specific prompts that the next layer replaces are used as keys and values only. The
    parameters of the encoder are shared and detached: they receive no gradient and never change.

    Parameters
    ----------
    encoder : object
        CLIP or MetaCLIP encoder with its tokenizer.

    Attributes
    ----------
    width, depth, dim : int
        Width of the tokens, number of layers, and dimension of the projected features.
    context_length : int
        Maximum number of tokens of a sentence, including start, end and slots.
    dtype : torch.dtype
        Data type of weights and results.
    device : torch.device
        Device of weights and results.

    Raises
    ------
    InputError
        The encoder has no text tower, or it is not causal.
    """

    def __init__(self, encoder: Any) -> None:
        kind = getattr(getattr(encoder, "model", None), "config", None)
        kind = getattr(kind, "model_type", type(encoder).__name__)
        if kind not in _CAUSAL:
            has_text = getattr(encoder, "has_text", False)
            what = "whose text tower is not causal" if has_text else "which has no text tower"
            raise InputError(
                f"Expected a CLIP or MetaCLIP encoder to learn prompts for, got '{getattr(encoder, 'name', kind)}' "
                f"(a '{kind}' network), {what}; load a CLIP checkpoint instead."
            )
        if not getattr(encoder, "reads_sentences", True):
            raise InputError(f"'{encoder.name}' came without a tokenizer; put its tokenizer files beside its weights.")
        self._open(encoder.model, encoder.tokenizer, encoder.context_length)

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Self:
        """Create the text tower of a CLIPModel of ``transformers`` with a tokenizer of the same interface."""
        tower = cls.__new__(cls)
        tower._open(model, tokenizer, model.config.text_config.max_position_embeddings)
        return tower

    def _open(self, model: Any, tokenizer: Any, context_length: int) -> None:
        text = model.text_model
        self._tokenizer = tokenizer
        self._embedding = text.embeddings.token_embedding.weight.detach()
        self._positions = text.embeddings.position_embedding.weight.detach()
        self._blocks = [TransformerBlock.of(layer) for layer in text.encoder.layers]
        self._final = Norm.of(text.final_layer_norm)
        self._projection = Affine.of(model.text_projection)
        self.context_length = context_length
        self.depth = len(self._blocks)
        self.dim, self.width = self._projection.weight.shape
        self.dtype, self.device = self._embedding.dtype, self._embedding.device

    def tokenize(self, sentences: Sequence[str], slots: int = 0, *, cut: bool = False) -> Sentences:
        """Tokenize sentences as start, placeholders, words, end-of-text.

        Parameters
        ----------
        sentences : sequence of str
            Sentence of each class, without the learnable part: "dog." for "[V1] … [Vm] dog.".
        slots : int, default=0
            Number of placeholders for prompts.
        cut : bool, default=False
            Truncate sentences that are longer than the context.

        Raises
        ------
        InputError
            A sentence with its slots is longer than the context, unless ``cut``.
        """
        if isinstance(sentences, str) or not sentences or not all(isinstance(s, str) for s in sentences):
            raise InputError(f"Expected a list of sentences, one per class, got {sentences!r:.60}.")
        if not 0 <= slots <= self.context_length - 3:
            raise InputError(
                f"Expected 0 to {self.context_length - 3} prompt tokens, which leaves room for one word in a context "
                f"of {self.context_length} tokens, got {slots}."
            )
        rows = self._tokenizer(list(sentences))["input_ids"]
        if cut:
            room = self.context_length - slots - 1
            rows = [row if len(row) <= room + 1 else [*row[:room], row[-1]] for row in rows]
        for text, row in zip(sentences, rows, strict=True):
            if len(row) + slots > self.context_length:
                raise InputError(
                    f"The class sentence '{text:.60}' has {len(row)} tokens with its start and end, and with {slots} "
                    f"prompt tokens {len(row) + slots}, but the context holds {self.context_length}; shorten it or "
                    f"use fewer prompt tokens."
                )
        rows = [[*row[:1], *[row[0]] * slots, *row[1:]] for row in rows]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows])
        return Sentences(ids, torch.tensor([len(row) - 1 for row in rows]), slots, tuple(sentences))

    def _outer_norms(self) -> dict[str, Norm]:
        return {"final": self._final}

    def words(self, text: str) -> Tensor:
        """Return a copy of the token embeddings (n, width) of words such as "a photo of a", for initial prompts."""
        ids = self._tokenizer([text])["input_ids"][0][1:-1]
        return self._embedding[torch.tensor(ids, dtype=torch.long, device=self.device)].clone()

    @torch.no_grad()
    def end_states(self, sentences: Sentences) -> Tensor:
        """Return the end-of-text tokens at the input of each layer, (depth, K, width), without prompts."""
        packing = pack(sentences.ids, sentences.ends, self.context_length, self._embedding)
        queries, (_, ends) = packing.everything(), packing.ends()
        x, states = (self._embedding[packing.ids] + self._positions[packing.positions])[None], []
        for block in self._blocks:
            states.append(x[0, ends])
            x = block(x, attention=partial(packed_attention, packing=packing, queries=queries))
        return torch.stack(states)

    def __call__(
        self,
        sentences: Sentences,
        prompts: Sequence[Tensor] = (),
        *,
        tokens: bool = False,
        bias: Tensor | None = None,
        chunk: int | None = None,
        checkpoint: bool = False,
    ) -> TextOutput:
        """Encode K sentences with G prompt sets; G = 1 if the prompts have no set dimension.

        Parameters
        ----------
        sentences : callable
            Result of :meth:`tokenize`, with as many slots as ``prompts[0]`` has tokens.
        prompts : sequence of Tensor, default=()
            ``prompts[l]`` is placed at the slots at the input of layer l, counted from 0: (M, width); (G, M, width) for
            G independent sets; (G, K, M, width) for class-specific prompts. Later ones replace the outputs of the
            previous layer at the (first M) slots; after the last one, slot outputs are passed on. The first ones get
            position embeddings.
        tokens : bool, default=False
            Also return all positions.
        bias : Tensor of shape (K, L, L) or None, default=None
            Or (depth, K, L, L), added to the attention scores before the causal mask; the prefix is then not shared.
        chunk : int or None, default=None
            Classes per chunk; the shared prefix is computed once per chunk. Limits the memory without gradients, and
            with gradients in combination with ``checkpoint``.
        checkpoint : bool, default=False
            Gradient checkpointing: store the inputs of the layers only and recompute each layer in the backward pass,
            for a third more computation. Also done where all chunks together would store more than 4 GiB, or a quarter
            of the memory of a GPU, otherwise.

        Notes
        -----
        With gradients, the memory is about 16·width·depth numbers per token, with ``checkpoint`` width·depth plus one
        layer of one chunk. No graph is built if no tensor requires a gradient.

        Raises
        ------
        InputError
            Prompts or bias have the wrong shape.
        """
        K, L = sentences.ids.shape
        prompts, G = validate_prompts(
            prompts, "text", self.width, self.depth, sentences.slots, K, self.dtype, self.device
        )
        bias = self._check_bias(bias, K, L)
        if chunk is not None and chunk < 1:
            raise InputError(f"Expected chunk to be at least one class, got {chunk}.")
        own = bias is not None or any(p.ndim == 4 for p in prompts)  # the slots are not in the shared prefix
        limit = 0 if bias is not None else 1 if own else self.context_length
        chunks = [(start, min(start + (chunk or K), K)) for start in range(0, K, chunk or K)]
        parts = [sentences.part(start, stop) for start, stop in chunks]
        packings = [pack(part.ids, part.ends, limit, self._embedding) for part in parts]
        width = self.width * self._embedding.itemsize  # bytes of a token
        stored = (
            STORED * G * sum(len(packing.ids) for packing in packings) * width * self.depth
        )  # by all chunks at once
        checkpoint = torch.is_grad_enabled() and (checkpoint or stored > _most_stored(self.device))
        outputs = []
        for (start, stop), packing in zip(chunks, packings, strict=True):
            some = [p[:, start:stop] if p.ndim == 4 else p for p in prompts]
            layers = None if bias is None else bias[:, start:stop].unbind(0)
            outputs.append(self._encode(packing, some, G, tokens, layers, checkpoint))
        pooled, rows = zip(*outputs, strict=True)
        mask = sentences.mask.to(self.device)
        return TextOutput(torch.cat(pooled, 1), torch.cat(rows, 1) * mask[..., None] if tokens else None, mask)

    def _encode(
        self,
        packing: Packing,
        prompts: list[Tensor],
        G: int,
        tokens: bool,
        bias: Sequence[Tensor] | None,
        checkpoint: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return pooled features (G, K, d) and all positions (G, K, L, d), or None, of one chunk of classes."""
        own = bias is not None or any(p.ndim == 4 for p in prompts)
        everything, (ends, places) = packing.everything(), packing.ends()
        x, queries = self._embedding[packing.ids].expand(G, -1, -1), everything
        for layer, block in enumerate(self._blocks):
            if layer < len(prompts):
                x = _place(x, prompts[layer], packing, queries)
            if layer == 0:
                x = x + self._positions[packing.positions]
            if layer == self.depth - 1:
                queries = everything if tokens else ends
            elif own and layer + 1 < len(prompts):
                queries = packing.without(prompts[layer + 1].shape[-2])
            else:
                queries = everything
            some_bias = None if bias is None else bias[layer]
            attention = partial(packed_attention, packing=packing, queries=queries, bias=some_bias)
            step = partial(block, attention=attention, rows=queries.rows)
            x = recompute(step, x, use_reentrant=False) if checkpoint else step(x)
        x = self._projection(self._final(x))
        if not tokens:
            return x.index_select(1, packing.order), None
        every = x.index_select(1, packing.index.flatten()).unflatten(1, packing.index.shape)
        return x.index_select(1, places), every

    def unpacked(self, sentences: Sentences, prompts: Tensor) -> Tensor:
        """(G, K, d) pooled features under prompts (G, M, width) of the first layer, in steps that a graph can record.

        Every sentence is computed in its full length, so that nothing depends on lengths.
        """
        (K, L), (G, M) = sentences.ids.shape, prompts.shape[:2]
        x = self._embedding[sentences.ids].expand(G, -1, -1, -1)
        own = prompts[:, None].expand(-1, K, -1, -1)
        x = (torch.cat([x[:, :, :1], own, x[:, :, 1 + M :]], dim=2) + self._positions[:L]).flatten(0, 1)
        for block in self._blocks:
            x = block(x, attention=causal_attention)
        ends = x.unflatten(0, (G, K))[:, torch.arange(K), sentences.ends]
        return self._projection(self._final(ends))

    def _check_bias(self, bias: Tensor | None, K: int, L: int) -> Tensor | None:
        """(depth, K, L, L) of an attention bias."""
        if bias is None:
            return None
        if bias.shape not in ((K, L, L), (self.depth, K, L, L)):
            raise InputError(
                f"Expected an attention bias of shape ({K}, {L}, {L}) or ({self.depth}, {K}, {L}, {L}) for these "
                f"sentences, got {tuple(bias.shape)}."
            )
        return bias.to(self.device, self.dtype).expand(self.depth, K, L, L)


def _most_stored(device: torch.device) -> int:
    """Return the number of bytes up to which the results of layers are stored."""
    return MOST_STORED if device.type != "cuda" else torch.cuda.get_device_properties(device).total_memory // 4


def _place(x: Tensor, prompts: Tensor, packing: Packing, computed: Queries) -> Tensor:
    """The row (G, T, w) with prompts (G, M, w) or (G, K, M, w) at the slots of its sentences.

    ``x`` holds the positions given by ``computed``: the whole row, or all of it except these slots.
    """
    M = prompts.shape[-2]
    if packing.prefix > M:
        return x.index_copy(1, packing.index[0, 1 : 1 + M], prompts)
    slots = packing.index[:, 1 : 1 + M].flatten()
    own = prompts if prompts.ndim == 4 else prompts[:, None].expand(-1, len(packing.index), -1, -1)
    if computed.rows is None:
        return x.index_copy(1, slots, own.flatten(1, 2))
    back = torch.cat([computed.rows, slots]).argsort()
    return torch.cat([x, own.flatten(1, 2)], dim=1).index_select(1, back)
