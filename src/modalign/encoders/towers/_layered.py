"""Base class of both towers: named linear maps of the layers, with weight updates or parallel paths."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError
from modalign.encoders.towers._blocks import Affine, Norm, TransformerBlock

SidePath = Callable[[Tensor], Tensor]
"""A function (…, inputs) → (…, outputs) whose result is added to that of a linear map."""

V = TypeVar("V")
T = TypeVar("T", bound="Layered")


class Layered:
    """Tower of :class:`~modalign.encoders.towers._blocks.TransformerBlock` layers."""

    _blocks: list[TransformerBlock]

    def maps(self) -> dict[str, torch.Size]:
        """Shapes (outputs, inputs) of the linear maps of all layers: ``3_q``, ``3_v``, ``3_out``, ``3_fc1``, …"""
        return {f"{i}_{name}": shape for i, block in enumerate(self._blocks) for name, shape in block.maps().items()}

    def with_updates(self: T, updates: Mapping[str, Tensor]) -> T:
        """Return the tower with W + ΔW instead of W in some linear maps, differentiable in ΔW.

        W + ΔW is computed once per call, O(w²) per map, and used for all images, so the cost of a forward pass does not
        change. The backward pass computes dense gradients (outputs, inputs); for queries, keys and values together this
        takes at most a quarter of a forward pass at ViT-B. A low-rank path per token would avoid this but add two
        products per map to every forward pass.

        Parameters
        ----------
        updates : mapping of str to Tensor
            ΔW (outputs, inputs) by the names of :meth:`maps`, on the device of the tower. Other weights are shared with
            this tower.

        Raises
        ------
        InputError
            An unknown map, or a ΔW of another shape.
        """
        shapes = self.maps()
        for name, update in updates.items():
            if name in shapes and update.shape != shapes[name]:
                raise InputError(
                    f"Expected an update of '{name}' of shape {tuple(shapes[name])}, got {tuple(update.shape)}."
                )
        return self._changed(TransformerBlock.with_updates, updates)

    def with_paths(self: T, paths: Mapping[str, SidePath]) -> T:
        """Return the tower with W x + path(x) instead of W x in some queries, keys and values.

        For terms that are not updates of W, such as one with dropout of x. The path is computed for every token.

        Parameters
        ----------
        paths : mapping of str to callable
            Functions by the names of :meth:`maps`; ``3_q``, ``3_k`` or ``3_v`` for layer 3.

        Raises
        ------
        InputError
            An unknown map, or a map without path.
        """
        for name in paths:
            if name in self.maps() and name.split("_")[1] not in ("q", "k", "v"):
                raise InputError(f"Expected paths beside queries, keys and values, got one beside '{name}'.")
        return self._changed(TransformerBlock.with_paths, paths)

    def norms(self) -> dict[str, Affine]:
        """Return the frozen weights and biases, (width,) each, of the layer norms: ``3_norm1``, ``3_norm2``, …"""
        found = {name: norm.affine for name, norm in self._outer_norms().items()}
        for layer, block in enumerate(self._blocks):
            found |= {f"{layer}_norm1": block.norm1.affine, f"{layer}_norm2": block.norm2.affine}
        return found

    def with_norms(self: T, norms: Mapping[str, Affine]) -> T:
        """Return the tower with other weights and biases in its layer norms, for example trainable ones.

        Parameters
        ----------
        norms : mapping of str to Affine
            Parameters by the names of :meth:`norms`; all others are shared with this tower.
        """
        tower = copy.copy(self)
        for name, norm in self._outer_norms().items():
            setattr(tower, f"_{name}", Norm(norms[name], norm.eps))
        tower._blocks = [
            replace(
                block,
                norm1=Norm(norms[f"{layer}_norm1"], block.norm1.eps),
                norm2=Norm(norms[f"{layer}_norm2"], block.norm2.eps),
            )
            for layer, block in enumerate(self._blocks)
        ]
        return tower

    def _outer_norms(self) -> dict[str, Norm]:
        """Layer norms before and after the layers, by the names of their attributes without underscore."""
        raise NotImplementedError

    def _changed(
        self: T, change: Callable[[TransformerBlock, dict[str, V]], TransformerBlock], named: Mapping[str, V]
    ) -> T:
        """The tower with every layer changed by what is named for it."""
        each: list[dict[str, V]] = [{} for _ in self._blocks]
        for name, value in named.items():
            if name not in self.maps():
                raise UnknownNameError("linear map", name, self.maps())
            layer, part = name.split("_")
            each[int(layer)][part] = value
        tower = copy.copy(self)
        tower._blocks = [change(block, some) if some else block for block, some in zip(self._blocks, each, strict=True)]
        return tower
