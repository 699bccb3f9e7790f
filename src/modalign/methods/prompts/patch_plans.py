"""Transport plans of one image and one class as maps over the patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import UNLABELED
from modalign.linalg.similarity import unit
from modalign.linalg.token_transport import token_plan
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.prompting import P
from modalign.methods.contract.tower import TowerMethod
from modalign.tune.batches import center_batches

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder
    from modalign.encoders.towers.vision_tower import Sentences


@dataclass(frozen=True)
class PatchPlans:
    """Maps over the h × w patches of one image, for one class.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Preprocessed image.
    class_name : str
        Of the class.
    prompts : ndarray of shape (N, h, w)
        Map of each textual prompt. PLOT: its plan times J·N, so that 1 is uniform. ALIGN, whose plans do not relate
        prompts to patches: the cosine of the class vector of the prompt with the patches, as in its Figure 4.
    tokens : tuple of ndarray or None, default=None
        For every textual prompt (L, h, w), ALIGN's token plan times J·L, so that 1 is uniform; None without token
        plans.
    words : tuple of tuple of str, default=()
        Text of the L tokens of every textual prompt; the learnable ones are "v1", "v2" ….
    plan : ndarray of shape (M, N) or None, default=None
        ALIGN's prompt plan times M·N, or None.
    """

    image: np.ndarray
    class_name: str
    prompts: np.ndarray
    tokens: tuple[np.ndarray, ...] | None = None
    words: tuple[tuple[str, ...], ...] = ()
    plan: np.ndarray | None = None


class Explained(NamedTuple, Generic[P]):
    """Image and class for which a fitted method is explained.

    Attributes
    ----------
    learner, classes : P
        The fitted method on its encoder, and its text side.
    pixels : Tensor of shape (1, 3, H, W)
        For the tower.
    image : ndarray of shape (H, W, 3), uint8
        For display.
    label : int
        Index of the class.
    """

    learner: P
    classes: Any
    pixels: Tensor
    image: np.ndarray
    label: int


def first_image(method: TowerMethod[P], items: Items, encoder: ClipEncoder, label: int | str | None) -> Explained[P]:
    """The first image of ``items`` that can be decoded, and a class by index or name, by default the predicted one."""
    require_fitted(method)
    learner, classes = method._bind(encoder)
    pixels, image = one_image(items, encoder)
    return Explained(
        learner, classes, pixels, image, chosen_class(label, method.class_names_, learner.scores(pixels, classes)[0])
    )


def one_image(items: Items, encoder: ClipEncoder) -> tuple[Tensor, np.ndarray]:
    """Return pixels (1, 3, H, W) for the tower and (H, W, 3) uint8 for display, of the first decodable image."""
    for batch in center_batches(items, encoder, 1):
        picture = items.open(int(batch.indices[0]), target=encoder.preprocessing.target)
        return batch.pixels, encoder.preprocessing.prepare(picture)
    raise InputError("Expected an image that can be decoded, got none.")


def chosen_class(label: int | str | None, names: list[str], scores: Tensor) -> int:
    """The index of a class by its index or name; by default the one with the highest score."""
    if label is None:
        return int(scores.argmax())
    if isinstance(label, str):
        if label not in names:
            raise UnknownNameError("class", label, names)
        return names.index(label)
    if not UNLABELED < label < len(names):
        raise InputError(f"Expected a class from 0 to {len(names) - 1}, got {label}.")
    return label


def grid(values: Tensor) -> np.ndarray:
    """(…, h·w) over the patches as (…, h, w); images are square."""
    side = round(values.shape[-1] ** 0.5)
    return values.float().unflatten(-1, (side, side)).cpu().numpy()


def prompt_plan(patches: Tensor, prompts: Tensor, epsilon: float) -> Tensor:
    """(N, J) PLOT's plan between local vectors (J, d) and prompts (N, d), times J·N."""
    plan = token_plan(patches[None], prompts[None], epsilon=epsilon)[0, 0]
    return plan.mT * plan.numel()


def cosine_maps(patches: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
    """(N, J) cosines of prompts (N, d) with patches (M, J, d), averaged over M with weights (M, N)."""
    return torch.einsum("mjd,nd,mn->nj", unit(patches), unit(prompts), weights)


def token_maps(patches: Tensor, words: Tensor, mask: Tensor, weights: Tensor, epsilon: float) -> list[Tensor]:
    """For every textual prompt (Lₙ, J) its token plans times J·Lₙ, averaged over the visual prompts.

    Parameters
    ----------
    patches : Tensor of shape (M, J, d)
        Local image features.
    words : Tensor of shape (N, L, d)
        Token features.
    mask : Tensor of shape (N, L), bool
        Which tokens exist.
    weights : Tensor of shape (M, N)
        Columns that sum to 1.
    epsilon : float
        Strength of the entropy.
    """
    plans = token_plan(patches, words, mask, epsilon=epsilon)
    plans = torch.einsum("mnjl,mn->nlj", plans, weights) * patches.shape[1]
    return [plan[own] * own.sum() for plan, own in zip(plans, mask, strict=True)]


def token_names(sentences: Sentences, k: int, tokenizer: Any) -> list[str]:
    """Return the text at each position of the sentence of class k."""
    names = tokenizer.convert_ids_to_tokens(sentences.ids[k].tolist())
    names = [name.removesuffix("</w>").strip("<|>") for name in names]
    return [f"v{i}" if 1 <= i <= sentences.slots else name for i, name in enumerate(names)]
