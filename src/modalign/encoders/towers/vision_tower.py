"""Image tower of CLIP for tuning: prompts at every layer, all tokens as output, frozen weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from modalign.core.errors import InputError
from modalign.encoders.towers._blocks import Affine, Attention, Norm, TransformerBlock, full_attention
from modalign.encoders.towers._layered import Layered
from modalign.encoders.towers._prompting import validate_prompts
from modalign.encoders.towers.sentences import Sentences, TextOutput
from modalign.encoders.towers.text_tower import TextTower

__all__ = [
    "Attention",
    "Layered",
    "Sentences",
    "TextOutput",
    "TextTower",
    "VisionOutput",
    "VisionTower",
    "full_attention",
]

_OPEN = ("clip", "metaclip_2")


@dataclass(frozen=True, eq=False)
class VisionOutput:
    """Output of a vision tower for B images and G prompt sets.

    Attributes
    ----------
    pooled : Tensor of shape (G, B, d)
        Projected class tokens, not normalized.
    tokens : Tensor of shape (G, B, L, d) or None
        All positions after the last layer norm and the projection, or None: the class token at 0, then the patches,
        then the prompts.
    classes : Tensor of shape (G, B, width)
        Class tokens after the last layer norm, before the projection.
    """

    pooled: Tensor
    tokens: Tensor | None
    classes: Tensor

    def select(self, rows: Tensor) -> VisionOutput:
        """The output for some of the images, (b,) int64."""
        return VisionOutput(
            self.pooled[:, rows], None if self.tokens is None else self.tokens[:, rows], self.classes[:, rows]
        )


class VisionTower(Layered):
    """Frozen CLIP vision transformer with prompts at every layer.

    Prompts are appended to the patches. Those of the first layer are added before the layer norm that precedes the
    transformer and have no position embedding, as in MaPLe and ALIGN; later ones replace the outputs of the previous
    layer at their positions. The parameters of the encoder are shared and detached: they receive no gradient and never
    change. The last layer computes the class token only, unless all tokens are requested.

    Parameters
    ----------
    encoder : object
        CLIP or MetaCLIP encoder.

    Attributes
    ----------
    width, depth, dim : int
        Width of the tokens, number of layers, and dimension of the projected features.
    patches : int
        Number of patches per image.
    patch_size, image_size : int
        Sides of a patch and of an image in pixels.
    dtype : torch.dtype
        Data type of weights and results.
    device : torch.device
        Device of weights and results.

    Raises
    ------
    InputError
        The network is not supported.
    """

    def __init__(self, encoder: Any) -> None:
        kind = getattr(getattr(encoder, "model", None), "config", None)
        kind = getattr(kind, "model_type", type(encoder).__name__)
        if kind not in _OPEN:
            raise InputError(
                f"Expected a CLIP or MetaCLIP encoder to learn prompts for, got '{getattr(encoder, 'name', kind)}' "
                f"(a '{kind}' network); load a CLIP checkpoint instead."
            )
        self._open(encoder.model)

    @classmethod
    def of(cls, model: Any) -> Self:
        """Create the vision tower of a CLIPModel of ``transformers``."""
        tower = cls.__new__(cls)
        tower._open(model)
        return tower

    def _open(self, model: Any) -> None:
        vision = model.vision_model
        embeddings = vision.embeddings
        self._class = embeddings.class_embedding.detach()
        self._patch = embeddings.patch_embedding.weight.detach()
        self._positions = embeddings.position_embedding.weight.detach()
        self._pre = Norm.of(vision.pre_layrnorm)
        self._blocks = [TransformerBlock.of(layer) for layer in vision.encoder.layers]
        self._post = Norm.of(vision.post_layernorm)
        self._projection = Affine.of(model.visual_projection)
        self.depth = len(self._blocks)
        self.dim, self.width = self._projection.weight.shape
        self.patches = len(self._positions) - 1
        self.patch_size = int(self._patch.shape[-1])
        self.image_size = int(embeddings.image_size)
        self.dtype, self.device = self._class.dtype, self._class.device

    def __call__(
        self, pixels: Tensor, prompts: Sequence[Tensor] = (), *, tokens: bool = False, checkpoint: bool = False
    ) -> VisionOutput:
        """Encode B images with G prompt sets; G = 1 if the prompts have no set dimension.

        Parameters
        ----------
        pixels : Tensor of shape (B, 3, size, size)
            Preprocessed images.
        prompts : sequence of Tensor, default=()
            ``prompts[l]`` is appended to the patches at the input of layer l, counted from 0: (V, width); (G, V, width)
            for G independent sets; (G, B, V, width) for separate prompts per image. Later ones replace the first V
            prompt outputs of the previous layer; after the last one, prompt outputs are passed on.
        tokens : bool, default=False
            Also return all positions.
        checkpoint : bool, default=False
            Gradient checkpointing: store the inputs of each layer only and recompute it in the backward pass.

        Raises
        ------
        InputError
            Pixels or prompts have the wrong shape.
        """
        self._check_pixels(pixels, self._patch.shape[1])
        B = pixels.shape[0]
        prompts, G = validate_prompts(prompts, "vision", self.width, self.depth, None, B, self.dtype, self.device)
        prompts = [self._each(p, B) for p in prompts]
        x = self._embed(pixels.to(self.device, self.dtype)).repeat(G, 1, 1)
        x = torch.cat([x, *prompts[:1]], dim=1)
        x = self._pre(x)
        rows = torch.zeros(1, dtype=torch.long, device=self.device)
        for layer, block in enumerate(self._blocks):
            if 0 < layer < len(prompts):
                place = 1 + self.patches
                x = torch.cat([x[:, :place], prompts[layer], x[:, place + prompts[layer].shape[1] :]], dim=1)
            pooled_only = layer == self.depth - 1 and not tokens
            step = partial(block, attention=full_attention, rows=rows if pooled_only else None)
            x = recompute(step, x, use_reentrant=False) if checkpoint and torch.is_grad_enabled() else step(x)
        x = self._post(x)
        projected = self._projection(x).unflatten(0, (G, B))
        return VisionOutput(projected[:, :, 0], projected if tokens else None, x[:, 0].unflatten(0, (G, B)))

    def states(self, pixels: Tensor) -> Iterator[Tensor]:
        """Return the inputs of all layers, (B, 1 + patches, width) each; the first is the normalized embedding.

        Parameters
        ----------
        pixels : Tensor of shape (B, 3, H, W)
            Images of any size of at least one patch; pixels beyond complete patches are cropped. Position embeddings
            are interpolated for other grids than that of training, see :func:`interpolated_positions`.

        Raises
        ------
        InputError
            Pixels have the wrong shape or are smaller than a patch.
        """
        channels, step = self._patch.shape[1], self.patch_size
        if pixels.ndim != 4 or pixels.shape[1] != channels or min(pixels.shape[2:]) < step:
            raise InputError(
                f"Expected pixels of shape (B, {channels}, H, W) with sides of at least one patch ({step} pixels), got "
                f"{tuple(pixels.shape)}."
            )
        x = self._pre(self._embed(pixels.to(self.device, self.dtype)))
        yield x
        for block in self._blocks[:-1]:
            x = block(x, full_attention)
            yield x

    def last(self, x: Tensor, attention: Attention, *, residual: bool = True, mlp: bool = True) -> Tensor:
        """Apply the last layer with another attention function: (B, T, width) → (B, T, width).

        Parameters
        ----------
        x : Tensor
            Input of the layer; any subset of the positions.
        attention : callable
            Function of queries, keys and values per head, (B, heads, T, width / heads) each, that returns the output
            per head. The queries are scaled by 1/√(width / heads).
        residual, mlp : bool, default=True
            Whether x is added, and whether the MLP is applied.
        """
        return self._blocks[-1](x, attention, residual=residual, mlp=mlp)

    def project(self, x: Tensor) -> Tensor:
        """Apply the last layer norm and the projection to the joint space, (…, width) → (…, dim)."""
        return self._projection(self._post(x))

    def _outer_norms(self) -> dict[str, Norm]:
        return {"pre": self._pre, "post": self._post}

    def _check_pixels(self, pixels: Tensor, channels: int) -> None:
        expected = (channels, self.image_size, self.image_size)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected or pixels.shape[0] == 0:
            raise InputError(
                f"Expected pixels of shape (B, {', '.join(map(str, expected))}), got {tuple(pixels.shape)}."
            )

    def _embed(self, pixels: Tensor) -> Tensor:
        """(B, 1 + patches, width): the class token and the patches, with their positions."""
        patches = F.conv2d(pixels, self._patch, stride=self.patch_size)
        positions = interpolated_positions(self._positions, *patches.shape[2:])
        return torch.cat([self._class.expand(pixels.shape[0], 1, -1), patches.flatten(2).mT], dim=1) + positions

    @staticmethod
    def _each(prompt: Tensor, B: int) -> Tensor:
        """(G·B, V, width) of (G, V, width) or (G, B, V, width)."""
        return (prompt if prompt.ndim == 4 else prompt[:, None].expand(-1, B, -1, -1)).flatten(0, 1)


def interpolated_positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """Interpolate the position embeddings of a square grid to another grid, (1 + rows·columns, width).

    Bicubic (``align_corners=False``). The class token is unchanged, and so is the table for the grid of training.
    """
    side = math.isqrt(len(table) - 1)
    if (rows, columns) == (side, side):
        return table
    grid = table[1:].unflatten(0, (side, side)).permute(2, 0, 1)[None]
    wide = grid.float() if grid.dtype in (torch.float16, torch.bfloat16) else grid
    wide = F.interpolate(wide, (rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], wide[0].flatten(1).T.to(table.dtype)])
