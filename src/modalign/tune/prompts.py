"""Learnable prompts: vectors inserted between the tokens of a frozen tower.

The number of parameters of each module equals that in its paper. ``prompts()`` returns one tensor per layer:

=====================  ====================================================================================
(M, width)             M prompts for all sentences or pictures
(G, M, width)          G sets of them, each of which gives its own feature
(G, K, M, width)       the same for each of K classes
=====================  ====================================================================================

========  ====================================  =========================================================
CoOp      :class:`Prompts`                      text, depth 1, 16 × 512 = 8,192, or that for every class
VPT       :class:`Prompts`                      vision, depth 1 (shallow) or every layer (deep)
CoCoOp    :class:`ConditionalPrompts`           text, shifted by a small network of the image features
MaPLe     :class:`ProjectedPrompts`             depth 9, length 2: 3,555,072 at ViT-B/16
ALIGN     :class:`ProjectedPrompts`             the same with 4 sets: 3,582,720
ALIGN     :class:`IndependentPrompts`           the same without networks: 92,160
UPT       :class:`JointPrompts`                 both sides from one small transformer
========  ====================================  =========================================================

Parameters are created on the CPU in float32, so that initial values do not depend on the device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError

STD = 0.02  # of normally drawn prompts, as in all of these papers' code


class Sides(NamedTuple):
    """Prompts of both towers, one tensor per layer from layer 0; () for a tower without prompts."""

    text: tuple[Tensor, ...] = ()
    vision: tuple[Tensor, ...] = ()


def accounting(module: nn.Module) -> dict[str, int]:
    """Trainable numbers by parameter name."""
    return {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(accounting(module).values())


class Prompts(nn.Module):
    """Independent prompts of one tower at layers 0 … depth − 1, initialized from N(0, 0.02²) or from words.

    Parameters
    ----------
    length : int
        M, prompts per set and layer.
    width : int
        Of the tower.
    depth : int, default=1
        Layers that get prompts of their own; 1 is shallow.
    sets : int or None, default=None
        G; None for one set without an axis of its own.
    classes : int or None, default=None
        K for prompts of every class (CoOp's class-specific context); None for shared ones.
    words : Tensor or None, default=None
        Token embeddings (M, width), or (S ≤ G, M, width), that layer 0 of the first set or S sets starts from.
    generator : Generator or None, default=None
        Random number generator of the other initial values.

    References
    ----------
    CoOp (Zhou et al., IJCV 2022) for text, VPT (Jia et al., ECCV 2022) for vision.
    """

    def __init__(
        self,
        length: int,
        width: int,
        *,
        depth: int = 1,
        sets: int | None = None,
        classes: int | None = None,
        words: Tensor | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        given = {"length": length, "width": width, "depth": depth, "sets": sets, "classes": classes}
        for name, value in given.items():
            if value is not None and (not is_integer(value) or value < 1):
                raise InputError(f"Expected {name} of prompts to be an integer of at least 1, got {value!r}.")
        self.length, self.width, self.depth, self.sets, self.classes = length, width, depth, sets, classes
        shape: tuple[int, ...] = (length, width)
        if classes is not None:
            shape = (sets or 1, classes, *shape)
        elif sets is not None:
            shape = (sets, *shape)
        self.layers = nn.ParameterList(nn.Parameter(_normal(*shape, generator=generator)) for _ in range(depth))
        if words is not None:
            self._begin_with(words)

    @torch.no_grad()
    def _begin_with(self, words: Tensor) -> None:
        rows = words.unsqueeze(0) if words.ndim == 2 else words
        if rows.ndim != 3 or rows.shape[1:] != (self.length, self.width) or len(rows) > (self.sets or 1):
            raise InputError(
                f"Expected words as embeddings ({self.length}, {self.width}) for at most {self.sets or 1} sets of "
                f"prompts, got {tuple(words.shape)}; give as many tokens as prompts, or none."
            )
        first = self.layers[0].view(self.sets or 1, self.classes or 1, self.length, self.width)
        first[: len(rows)] = rows[:, None].to(first)

    def prompts(self) -> tuple[Tensor, ...]:
        """One tensor per layer."""
        return tuple(self.layers)


class IndependentPrompts(nn.Module):
    """Independent prompts of one or both towers.

    Parameters
    ----------
    text, vision : Prompts or None, default=None
        The prompts of one tower, or None.
    """

    def __init__(self, text: Prompts | None = None, vision: Prompts | None = None) -> None:
        super().__init__()
        if text is None and vision is None:
            raise InputError("Expected prompts for at least one tower, got none; give text or vision.")
        self.text, self.vision = text, vision

    def prompts(self) -> Sides:
        """The parameters themselves."""
        return Sides(*(() if side is None else side.prompts() for side in (self.text, self.vision)))


class ProjectedPrompts(nn.Module):
    """Visual prompts as linear functions of the textual ones, one map per layer for all sets: v = A t + b.

    Trainable: depth · (G·M·width + width · vision_width + vision_width); with width 512, vision_width 768 and depth 9
    that is 3,555,072 for MaPLe (G = 1, M = 2) and 3,582,720 for ALIGN as released (G = 4, M = 2).

    Parameters
    ----------
    text : Prompts
        The textual prompts, not of single classes.
    vision_width : int
        Of the vision tower.
    generator : Generator or None, default=None
        Generator of the maps, U(±1/√width).

    References
    ----------
    MaPLe (Khattak et al., CVPR 2023); ALIGN's released configuration.
    """

    def __init__(self, text: Prompts, vision_width: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        if text.classes is not None:
            raise InputError("Expected prompts shared by all classes, a picture has no class to project from.")
        self.text = text
        self.maps = nn.ModuleList(_linear(text.width, vision_width, generator) for _ in range(text.depth))

    def prompts(self) -> Sides:
        """Textual prompts and their images."""
        text = self.text.prompts()
        return Sides(text, tuple(project(t) for project, t in zip(self.maps, text, strict=True)))


class ConditionalPrompts(nn.Module):
    """CoCoOp: textual context plus the output of a bottleneck network of the image, t_m(x) = t_m + h(x).

    h = Linear(d → ⌊d/16⌋), ReLU, Linear(→ width). Trainable at d = width = 512, M = 4: 2,048 + 33,312 = 35,360.

    Parameters
    ----------
    length : int
        M.
    width : int
        Of the text tower.
    image_width : int
        d of the image features.
    words : Tensor or None, default=None
        As for :class:`Prompts`.
    generator : Generator or None, default=None
        Random number generator of the other initial values.

    References
    ----------
    CoCoOp (Zhou et al., CVPR 2022).
    """

    def __init__(
        self,
        length: int,
        width: int,
        image_width: int,
        *,
        words: Tensor | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        hidden = max(1, image_width // 16)
        self.text = Prompts(length, width, words=words, generator=generator)
        self.meta = nn.Sequential(_linear(image_width, hidden, generator), nn.ReLU(), _linear(hidden, width, generator))

    def prompts(self, images: Tensor) -> Sides:
        """Return one set of prompts per image, (B, M, width), from image features (B, d)."""
        return Sides((self.text.layers[0] + self.meta(images)[:, None],))


class JointPrompts(nn.Module):
    r"""UPT: the prompts of both towers from one sequence U through one small transformer block, then split.

    .. math:: U' = SA(U) + LN(U), \qquad \hat U = FFN(LN(U')) + LN(U'), \qquad [\hat U_t; \hat U_v] = \hat U

    and one linear map to the width of each tower. The block and the maps are shared by all layers; U is layer-specific.
    The maps are initialized with standard deviation 0.02/√width, so that the prompts have 0.02 as in the other methods.

    Parameters
    ----------
    length : tuple of (int, int)
        (textual, visual) prompts per layer.
    text_width, vision_width : int
        Of the towers.
    width : int, default=128
        Of the block.
    depth : int, default=1
        Layers that get prompts.
    heads : int, default=4
        Of the attention; a divisor of ``width``.
    generator : Generator or None, default=None
        Random number generator.

    References
    ----------
    Unified vision and language prompt learning (Zang et al., 2022).
    """

    def __init__(
        self,
        length: tuple[int, int],
        text_width: int,
        vision_width: int,
        *,
        width: int = 128,
        depth: int = 1,
        heads: int = 4,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"Expected heads to divide the width of {width}, got {heads}.")
        self.length, self.heads = length, heads
        self.unified = Prompts(sum(length), width, depth=depth, generator=generator)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.ModuleDict(
            {name: _linear(width, width, generator) for name in ("query", "key", "value", "out")}
        )
        self.feed_forward = nn.Sequential(
            _linear(width, 4 * width, generator), nn.GELU(), _linear(4 * width, width, generator)
        )
        self.to_text = _linear(width, text_width, generator, std=STD / math.sqrt(width))
        self.to_vision = _linear(width, vision_width, generator, std=STD / math.sqrt(width))

    def prompts(self) -> Sides:
        """Both sides of every layer; cost O(depth · (Mₜ + Mᵥ) · width²)."""
        U = torch.stack(self.unified.prompts())
        mixed = self.after(self._attend(U) + self.before(U))
        text, vision = (self.feed_forward(mixed) + mixed).split(self.length, dim=1)
        return Sides(self.to_text(text).unbind(), self.to_vision(vision).unbind())

    def _attend(self, U: Tensor) -> Tensor:
        split = (*U.shape[:2], self.heads, -1)
        q, k, v = (self.attention[name](U).view(split).transpose(1, 2) for name in ("query", "key", "value"))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.attention["out"](attended.transpose(1, 2).reshape(U.shape))


def _normal(*shape: int, generator: Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator) * STD


def _linear(inputs: int, outputs: int, generator: Generator | None, std: float | None = None) -> nn.Linear:
    """Weights and biases from U(±1/√inputs), torch's own default, or weights from N(0, std²) and no bias yet."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        if std is None:
            bound = 1 / math.sqrt(inputs)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        else:
            layer.weight.normal_(0, std, generator=generator)
            layer.bias.zero_()
    return layer
