"""Trainable parts of a frozen image tower: layer norms, or low-dimensional updates of the attention.

Every module has trainable parameters and a method ``tower(vision)`` that returns the tower with these parameters, which
initially equals the frozen tower. Gradients reach the parameters but not the encoder. ``state_dict`` is sufficient for
a saved model. Modules can be combined: ``lora.tower(norms.tower(vision))``.

==============================  ============  =====================================================================
ViT-B/32 (width 768, 12)        trainable     names
==============================  ============  =====================================================================
:class:`LayerNorms`             39,936        ``pre_weight``, ``pre_bias``, ``3_norm1_weight``, …, ``post_bias``
:class:`LoRA`                   147,456       ``3_q_A``, ``3_q_B``, …
:class:`KAdaptation`            40,960        ``q_slow_left``, ``q_slow_right``, ``q_fast_left``, ``q_fast_right``, …
==============================  ============  =====================================================================
"""

from __future__ import annotations

from inspect import signature
from typing import Any, Literal, TypeVar, get_args

from torch import Generator, nn

from modalign.core.errors import UnknownNameError, require_choice
from modalign.encoders.towers.text_tower import TextTower
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.tune.updates import KAdaptation, LoRA

__all__ = ["KAdaptation", "LayerNorms", "LoRA", "Target", "trainable_module"]

T = TypeVar("T", VisionTower, TextTower)
Target = Literal["layer_norms", "lora", "k_adaptation"]


class LayerNorms(nn.ParameterDict):
    """Weights and biases of all layer norms, (4 · depth + 4) · width numbers of an image tower (FAIR, section 6.1).

    Parameters
    ----------
    tower : VisionTower or TextTower
        The frozen tower, whose values it starts from, in float32. A text tower has one layer norm less.
    """

    def __init__(self, tower: VisionTower | TextTower) -> None:
        super().__init__()
        for name, (weight, bias) in tower.norms().items():
            assert bias is not None  # the layer norms of CLIP have one
            self[f"{name}_weight"] = nn.Parameter(weight.float().clone())
            self[f"{name}_bias"] = nn.Parameter(bias.float().clone())

    def tower(self, frozen: T) -> T:
        """``frozen`` with these layer norms."""
        present = {
            name: affine._replace(
                weight=self[f"{name}_weight"].to(frozen.dtype), bias=self[f"{name}_bias"].to(frozen.dtype)
            )
            for name, affine in frozen.norms().items()
        }
        return frozen.with_norms(present)


def trainable_module(
    name: Target, vision: VisionTower, *, generator: Generator | None = None, **options: Any
) -> LayerNorms | LoRA | KAdaptation:
    """Create a module by name.

    Parameters
    ----------
    name : {"layer_norms", "lora", "k_adaptation"}
        Which.
    vision : VisionTower
        The frozen tower.
    generator : Generator or None, default=None
        Where a random start is drawn from; None for a module whose state is restored next, which spares LoRA the import
        of ``peft``.
    options : object
        Of :class:`LoRA` or :class:`KAdaptation`, such as ``rank=8``.

    Raises
    ------
    InputError
        No such target, or none of its options.
    """
    require_choice("target", name, get_args(Target))
    cls = {"layer_norms": LayerNorms, "lora": LoRA, "k_adaptation": KAdaptation}[name]
    known = signature(cls).parameters.keys() - {"vision", "tower", "generator", "start"}
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of target '{name}'", option, known)
    if cls is LayerNorms:
        return LayerNorms(vision)
    if cls is LoRA:
        return LoRA(vision, generator=generator, start=generator is not None, **options)
    return KAdaptation(vision, generator=generator or Generator(), **options)
