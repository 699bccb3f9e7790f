"""Numbers of parameters by arithmetic from the sizes of CLIP's towers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TowerSizes:
    """Widths and depths of a CLIP with a vision transformer of 224 × 224 pixels.

    Attributes
    ----------
    patch, width, layers : int
        Of the vision tower.
    text_width, text_layers, words, tokens : int
        Of the text tower; ``words`` is the size of its vocabulary.
    projection : int
        Dimension of the shared space.
    """

    patch: int
    width: int = 768
    layers: int = 12
    text_width: int = 512
    text_layers: int = 12
    words: int = 49_408
    tokens: int = 77
    projection: int = 512


SIZES = {"ViT-B/16": TowerSizes(16), "ViT-B/32": TowerSizes(32)}


def clip_parameters(s: TowerSizes) -> int:
    """All parameters of a CLIP: both towers, both projections and the logit scale."""
    vision = 3 * s.patch**2 * s.width + s.width + (224 // s.patch) ** 2 * s.width + s.width + 4 * s.width
    text = (s.words + s.tokens) * s.text_width + 2 * s.text_width
    layers = s.layers * _layer(s.width) + s.text_layers * _layer(s.text_width)
    return vision + text + layers + (s.width + s.text_width) * s.projection + 1


def hpt_parameters(s: TowerSizes, *, visual: int = 2, shared: int = 2, instance: int = 5) -> int:
    """What HPT learns: prompts of both towers, the layer between the texts, two strengths per layer of attention."""
    prompts = visual * s.layers * s.width + shared * s.text_layers * s.text_width + instance * s.text_width
    return prompts + s.text_width**2 + s.text_width + 2 * s.text_layers


DAM_SCALARS = 11  # λ, ρ for images and texts, and those of the cross-modal alignment and its mixture


def fair_parameters(s: TowerSizes, classes: int) -> int:
    """What FAIR learns: the layer norms of the vision tower and a vector per class."""
    return (2 * s.layers + 2) * 2 * s.width + classes * s.projection


def _layer(width: int) -> int:
    """Attention with four square maps, an MLP of four times the width, two layer norms."""
    return 4 * (width**2 + width) + 8 * width**2 + 5 * width + 4 * width


def counted(method: str, metric: str, backbone: str) -> int | None:
    """A count of a table for EuroSAT's ten classes; None where this library does not have the method."""
    s = SIZES[backbone]
    total, hpt = clip_parameters(s), hpt_parameters(s)
    counts = {
        ("CLIP", "parameters"): total,
        ("CLIP", "trainable parameters"): 0,
        ("HPT", "parameters"): total + hpt,
        ("HPT", "trainable parameters"): hpt,
        ("DAM", "parameters"): total + hpt + DAM_SCALARS,
        ("DAM", "trainable parameters"): hpt + DAM_SCALARS,
        ("FAIR", "trainable parameters"): fair_parameters(s, 10),
        ("ReCLIP", "trainable parameters"): fair_parameters(s, 0) + (2 * s.text_layers + 1) * 2 * s.text_width,
        ("UPL", "trainable parameters"): 16 * s.text_width,  # one context
    }
    return counts.get((method, metric))
