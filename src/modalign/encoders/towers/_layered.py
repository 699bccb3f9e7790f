"""What both towers share: the linear maps of their layers by name, with updates in their weights or beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError
from modalign.encoders.towers._blocks import TransformerBlock

SidePath = Callable[[Tensor], Tensor]
"""A function (…, inputs) → (…, outputs) whose result is added to that of a linear map."""

V = TypeVar("V")
T = TypeVar("T", bound="Layered")


class Layered:
    """A tower of :class:`~modalign.encoders.towers._blocks.TransformerBlock` layers."""

    _blocks: list[TransformerBlock]

    def maps(self) -> dict[str, torch.Size]:
        """Shapes (outputs, inputs) of the linear maps of all layers: ``3_q``, ``3_v``, ``3_out``, ``3_fc1``, …"""
        return {f"{i}_{name}": shape for i, block in enumerate(self._blocks) for name, shape in block.maps().items()}

    def with_updates(self: T, updates: Mapping[str, Tensor]) -> T:
        """The same tower with W + ΔW in place of W in some linear maps, differentiable in ΔW.

        W + ΔW is formed once, when this is called, and serves every image after it: any kind of ΔW goes the same way
        and a forward pass costs what it did. Forming costs O(w²) a map, as much as a few tokens in its layer. The
        price is paid in the backward pass, by whole gradients (outputs, inputs): for queries, keys and values together
        at most a quarter of a forward pass at ViT-B, which a low-rank path beside every token would save, with two
        more products a map in every forward pass instead.

        Parameters
        ----------
        updates : mapping of str to Tensor
            ΔW (outputs, inputs) by the names that :meth:`maps` gives, as for the encoder's own weights: W x + ΔW x; on
            the tower's device. All that is not named is shared with this tower.

        Raises
        ------
        InputError
            A map that the tower has not, or ΔW of another shape.
        """
        shapes = self.maps()
        for name, update in updates.items():
            if name in shapes and update.shape != shapes[name]:
                raise InputError(
                    f"Expected an update of '{name}' of shape {tuple(shapes[name])}, got {tuple(update.shape)}."
                )
        return self._changed(TransformerBlock.with_updates, updates)

    def with_paths(self: T, paths: Mapping[str, SidePath]) -> T:
        """The same tower with W x + path(x) in place of W x in some of its queries, keys and values.

        The way for what is no update of W, such as one with dropout of x. It costs the path for every token.

        Parameters
        ----------
        paths : mapping of str to callable
            By the names that :meth:`maps` gives, ``3_q``, ``3_k`` or ``3_v`` for layer 3.

        Raises
        ------
        InputError
            A map that the tower has not, or that takes no path.
        """
        for name in paths:
            if name in self.maps() and name.split("_")[1] not in ("q", "k", "v"):
                raise InputError(f"Expected paths beside queries, keys and values, got one beside '{name}'.")
        return self._changed(TransformerBlock.with_paths, paths)

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
