"""Low-dimensional updates ΔW of the linear maps of a frozen tower: LoRA and K-Adaptation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError, require, require_choice
from modalign.encoders.towers.vision_tower import Layered, VisionTower

Map = Literal["q", "k", "v", "out", "fc1", "fc2"]
T = TypeVar("T", bound=Layered)


class LoRA(nn.ParameterDict):
    r"""Low-rank adaptation: W + (α/r) B A in some linear maps of every layer, with A (r, inputs) and B (outputs, r).

    Trainable: depth · r · Σ (inputs + outputs); 147,456 at ViT-B/32 with r = 4 on queries and values, which is what
    PEViT's comparison counts for LoRA. A module is made by the package ``peft``, which draws A from
    :math:`U(\pm 1/\sqrt{\text{inputs}})` and sets B to zero; what it made is kept as plain tensors, so a module that is
    restored, and prediction, need no ``peft``.

    FAIR's comparison does not state r, α and the maps. Here α = r, and maps are those of LoRA's experiments.

    Parameters
    ----------
    tower : Layered
        The frozen tower, of images or text; only its shapes are used.
    rank : int, default=4
        r.
    alpha : float or None, default=None
        α; None takes r, so that the factor is 1.
    maps : sequence of {"q", "k", "v", "out", "fc1", "fc2"}
        Which of a layer.
    generator : Generator or None, default=None
        Where A is drawn from; None is torch's own.
    start : bool, default=True
        False leaves A at zero as well, for ``load_state_dict`` to fill.

    Raises
    ------
    MissingExtraError
        ``peft`` is not installed and the module is not to be restored.
    InputError
        Options out of their range.
    Source
        Hu et al., LoRA: Low-rank adaptation of large language models, ICLR 2022, equation 3 and section 4.1.
    """

    def __init__(
        self,
        tower: Layered,
        *,
        rank: int = 4,
        alpha: float | None = None,
        maps: Sequence[Map] = ("q", "v"),
        generator: Generator | None = None,
        start: bool = True,
    ) -> None:
        super().__init__()
        shapes = _chosen(tower, maps)
        _check_rank(rank, max(min(shape) for shape in shapes.values()))
        if alpha is not None and not 0 < alpha < math.inf:
            raise InputError(f"Expected alpha of LoRA above 0, got {alpha!r}.")
        self.rank, self.alpha = rank, rank if alpha is None else alpha
        if start:
            factors = _by_peft(shapes, rank, self.alpha, generator)
        else:
            factors = {
                name: (torch.zeros(rank, wide), torch.zeros(high, rank)) for name, (high, wide) in shapes.items()
            }
        for name, (A, B) in factors.items():
            self[f"{name}_A"], self[f"{name}_B"] = nn.Parameter(A), nn.Parameter(B)

    def updates(self) -> dict[str, Tensor]:
        """ΔW (outputs, inputs) by map, O(r w²) each."""
        scale = self.alpha / self.rank
        return {name: scale * (self[f"{name}_B"] @ self[f"{name}_A"]) for name in self._names()}

    def tower(self, tower: T, dropout: float = 0.0) -> T:
        """``tower`` with these updates.

        Parameters
        ----------
        tower : T
            Like the one that the module was made for.
        dropout : float, default=0.0
            Share of the inputs x of every B A x that is set to zero, drawn independently for each map and token from
            torch's own generator; only for queries, keys and values.
        """
        if not dropout:
            return tower.with_updates(self.updates())
        return tower.with_paths({name: partial(self._path, name, dropout) for name in self._names()})

    def _path(self, name: str, dropout: float, x: Tensor) -> Tensor:
        """(α/r) B A x under dropout of x."""
        A, B = (self[f"{name}_{factor}"].to(x.dtype) for factor in "AB")
        return self.alpha / self.rank * F.linear(F.linear(F.dropout(x, dropout), A), B)

    def _names(self) -> list[str]:
        return [key.removesuffix("_A") for key in self if key.endswith("_A")]


class KAdaptation(nn.ParameterDict):
    r"""Kronecker adaptation: an update of full shape from small matrices, of which one factor is shared by all layers.

    .. math:: \Delta W_l = c \sum_{i=1}^n A_i \otimes B_{li}, \qquad A_i = s_i t_i^T, \quad B_{li} = u_{li} v_{li}^T

    with A_i (n, n), the slow weights, one set for the queries of all layers and one for the values, and B_li
    (outputs/n, inputs/n) of rank r, the fast weights, of each layer its own. As every term has rank r, ΔW is one
    product of :math:`[s_i \otimes u_{li}]` (outputs, n r) and :math:`[t_i \otimes v_{li}]^T`.

    Trainable: for each kind of map 2 n² + depth · r · (outputs + inputs); at ViT-B/32 40,960.

    n = 32, r = 1, A_i of rank one, s, t ~ U(±0.01) and c = 5 · 128 / 4 are those of the code that its authors released
    (PEViT). There are four differences from that code. (1) It initializes both u and v with zero, where all gradients
    vanish; here only v is zero and u is Glorot-uniform with gain √2. (2) It trains one bias vector of width numbers per
    layer, added to queries and values (9,216 numbers at ViT-B/32; with these 40,960 they are the 50,176 of its README);
    here only the weight update is trained. (3) It adds ΔW x after the queries were scaled by 1/√(w/heads); here the
    sum is scaled. (4) It applies dropout of 0.5 to ΔW; here there is none. These settings were not compared with the
    text of the paper; FAIR's comparison does not state its own.

    Parameters
    ----------
    vision : VisionTower
        The frozen tower; only its shapes are used.
    n : int, default=32
        Number of terms and size of A_i; a divisor of the width.
    rank : int, default=1
        r.
    scale : float, default=160.0
        c.
    maps : sequence of {"q", "k", "v", "out", "fc1", "fc2"}
        Which of a layer.
    generator : Generator or None, default=None
        Where s, t and u are drawn from.

    Raises
    ------
    InputError
        Options out of their range, or n that does not divide the width.
    Source
        He, Li, Zhang, Yang and Wang, Parameter-efficient model adaptation for vision transformers, AAAI 2023.
    """

    def __init__(
        self,
        vision: VisionTower,
        *,
        n: int = 32,
        rank: int = 1,
        scale: float = 160.0,
        maps: Sequence[Map] = ("q", "v"),
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        shapes = _chosen(vision, maps)
        if not is_integer(n) or n < 1 or any(size % n for s in shapes.values() for size in s):
            raise InputError(f"Expected n of K-Adaptation to divide the width {vision.width} of the tower, got {n!r}.")
        _check_rank(rank, max(min(shape) for shape in shapes.values()) // n)
        if not 0 < scale < math.inf:
            raise InputError(f"Expected scale of K-Adaptation above 0, got {scale!r}.")
        self.scale, self.depth, self.maps = scale, vision.depth, tuple(maps)
        for part in self.maps:
            high, wide = (size // n for size in shapes[f"0_{part}"])
            glorot = math.sqrt(2) * math.sqrt(6 / (high + rank))
            self[f"{part}_slow_left"] = _uniform(n, n, bound=0.01, generator=generator)
            self[f"{part}_slow_right"] = _uniform(n, n, bound=0.01, generator=generator)
            self[f"{part}_fast_left"] = _uniform(vision.depth, n, high, rank, bound=glorot, generator=generator)
            self[f"{part}_fast_right"] = nn.Parameter(torch.zeros(vision.depth, n, wide, rank))

    def updates(self) -> dict[str, Tensor]:
        """ΔW (outputs, inputs) by map, O(n r w²) each."""
        found: dict[str, Tensor] = {}
        for part in self.maps:
            left, right = (
                torch.einsum("ia,libr->labir", self[f"{part}_slow_{side}"], self[f"{part}_fast_{side}"])
                .flatten(1, 2)
                .flatten(2)
                for side in ("left", "right")
            )
            found |= {f"{layer}_{part}": update for layer, update in enumerate(self.scale * (left @ right.mT))}
        return found

    def tower(self, vision: VisionTower) -> VisionTower:
        """``vision`` with these updates."""
        return vision.with_updates(self.updates())


def _by_peft(
    shapes: dict[str, torch.Size], rank: int, alpha: float, generator: Generator | None
) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B as ``peft`` makes them for linear layers of these shapes, on the CPU in float32."""
    peft = require("peft", "lora")
    shell = nn.ModuleDict()
    for name, (high, wide) in shapes.items():
        shell[name] = nn.Linear(wide, high, bias=False, device="meta")
        shell[name].weight = nn.Parameter(torch.zeros(1, 1).expand(high, wide), requires_grad=False)  # takes no memory
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(shapes))
    with torch.random.fork_rng(devices=[], enabled=generator is not None):  # peft draws from the global generator
        if generator is not None:
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        peft.inject_adapter_in_model(config, shell)
    made = {
        name: [shell.get_parameter(f"{name}.lora_{side}.default.weight").detach() for side in "AB"] for name in shapes
    }
    return {name: (A, B) for name, (A, B) in made.items()}


def _chosen(tower: Layered, maps: Sequence[Map]) -> dict[str, torch.Size]:
    """Return the shapes of the named maps of all layers."""
    if isinstance(maps, str) or not maps or len(set(maps)) < len(maps):
        raise InputError(f"Expected maps as different names such as ('q', 'v'), got {maps!r}.")
    for part in maps:
        require_choice("maps", part, get_args(Map))
    return {name: shape for name, shape in tower.maps().items() if name.split("_")[1] in maps}


def _check_rank(rank: int, largest: int) -> None:
    if not is_integer(rank) or not 1 <= rank <= largest:
        raise InputError(f"Expected rank to be an integer from 1 to {largest}, got {rank!r}.")


def _uniform(*shape: int, bound: float, generator: Generator | None) -> nn.Parameter:
    return nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * bound)
