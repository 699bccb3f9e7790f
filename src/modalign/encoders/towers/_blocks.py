"""Layers of a frozen transformer as functions of tensors, with gradients to inputs but not to weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # heads of (queries, keys, values), each (G, heads, T, w/heads)


class Affine(NamedTuple):
    """Weight and bias of a linear map or a layer norm, detached: autograd computes no gradient to them."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: nn.Linear | nn.LayerNorm) -> Affine:
        """The frozen parameters of a module, sharing its memory."""
        return cls(module.weight.detach(), None if module.bias is None else module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def plus(self, update: Tensor) -> Affine:
        """The map with W + ΔW; the sum is taken in the wider of the two precisions."""
        return self._replace(weight=(self.weight + update).to(self.weight.dtype))

    def rows(self, start: int, stop: int | None = None) -> Affine:
        """The map to some of the outputs only."""
        return Affine(self.weight[start:stop], None if self.bias is None else self.bias[start:stop])


class Norm(NamedTuple):
    """A frozen layer norm."""

    affine: Affine
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> Norm:
        """The frozen parameters of a module, sharing its memory."""
        return cls(Affine.of(module), module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.affine.weight, self.affine.bias, self.eps)


@dataclass(frozen=True)
class TransformerBlock:
    """One pre-norm layer: x ← x + out(attention(norm1(x))), x ← x + fc2(act(fc1(norm2(x)))).

    Queries, keys and values are computed in one product, and the query projection includes the factor 1/√(w/heads).
    ``paths`` maps ``q``, ``k`` or ``v`` to a function of the input that is added to its output.
    """

    norm1: Norm
    qkv: Affine
    out: Affine
    norm2: Norm
    fc1: Affine
    fc2: Affine
    act: Callable[[Tensor], Tensor]
    heads: int
    paths: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def of(cls, layer: Any) -> TransformerBlock:
        """Convert a CLIP layer of ``transformers``; copies 3·w² numbers and shares all other memory."""
        attention, mlp = layer.self_attn, layer.mlp
        maps = [Affine.of(m) for m in (attention.q_proj, attention.k_proj, attention.v_proj)]
        maps[0] = Affine(*(attention.head_dim**-0.5 * t for t in maps[0]))
        return cls(
            norm1=Norm.of(layer.layer_norm1),
            qkv=Affine(*(torch.cat(parts) for parts in zip(*maps, strict=True))),
            out=Affine.of(attention.out_proj),
            norm2=Norm.of(layer.layer_norm2),
            fc1=Affine.of(mlp.fc1),
            fc2=Affine.of(mlp.fc2),
            act=quick_gelu if "quick" in type(mlp.activation_fn).__name__.lower() else mlp.activation_fn,
            heads=attention.num_heads,
        )

    def maps(self) -> dict[str, torch.Size]:
        """Shapes (outputs, inputs) of the linear maps, by the names that :meth:`with_updates` takes."""
        query, key, value = (weight.shape for weight in self.qkv.weight.chunk(3))
        others = (self.out.weight.shape, self.fc1.weight.shape, self.fc2.weight.shape)
        return dict(zip(("q", "k", "v", "out", "fc1", "fc2"), (query, key, value, *others), strict=True))

    def with_updates(self, updates: Mapping[str, Tensor]) -> TransformerBlock:
        """Return the layer with W + ΔW for each given ΔW; that of the queries is scaled like their W."""
        changed = {name: getattr(self, name).plus(updates[name]) for name in ("out", "fc1", "fc2") if name in updates}
        if not updates.keys().isdisjoint("qkv"):
            parts = [updates.get(n, torch.zeros_like(W)) for n, W in zip("qkv", self.qkv.weight.chunk(3), strict=True)]
            parts[0] = self._scaled(parts[0])
            changed["qkv"] = self.qkv.plus(torch.cat(parts))
        return replace(self, **changed)

    def with_paths(self, paths: Mapping[str, Callable[[Tensor], Tensor]]) -> TransformerBlock:
        """Return the layer with these paths; that of the queries is scaled like their W."""
        scaled = {"q": lambda h: self._scaled(paths["q"](h))} if "q" in paths else {}
        return replace(self, paths={**self.paths, **paths, **scaled})

    def __call__(
        self, x: Tensor, attention: Attention, rows: Tensor | None = None, *, residual: bool = True, mlp: bool = True
    ) -> Tensor:
        """(G, T, w) → (G, T, w); or only the given R positions of the result, (G, R, w), for a last layer.

        Without ``residual``, x is not added to the output of the attention; without ``mlp``, the second half is
        omitted.
        """
        asking = h = self.norm1(x)
        if rows is None:
            q, k, v = self.qkv(h).chunk(3, dim=-1)
        else:
            width = x.shape[-1]
            asking, x = h.index_select(1, rows), x.index_select(1, rows)
            q = self.qkv.rows(0, width)(asking)
            k, v = self.qkv.rows(width)(h).chunk(2, dim=-1)
        q, k, v = (self._split(self._beside(*part)) for part in (("q", q, asking), ("k", k, h), ("v", v, h)))
        attended = self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + attended if residual else attended
        return x + self.fc2(self.act(self.fc1(self.norm2(x)))) if mlp else x

    def _scaled(self, queries: Tensor) -> Tensor:
        """Scale what is added to the queries, or to their W, by 1/√(w/heads)."""
        return (self.out.weight.shape[0] / self.heads) ** -0.5 * queries

    def _beside(self, name: str, made: Tensor, given: Tensor) -> Tensor:
        """Return the output of a linear map plus that of its path."""
        return made + self.paths[name](given) if name in self.paths else made

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702x) by way of ``silu``, which keeps one tensor for the backward pass instead of three."""
    return F.silu(1.702 * x) * (1 / 1.702)


def full_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ) v over all positions; the scale is already in the queries."""
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same with a causal mask."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
