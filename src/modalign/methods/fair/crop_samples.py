"""Weights of crops under a self-training method, before and after its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modalign.linalg.similarity import softmax_weights
from modalign.methods.fair.fair_score import crop_weights
from modalign.methods.fair.self_training import SelfTrained
from modalign.tune.crops import CropBatches

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder

CROPS = 16


@torch.no_grad()
def sampled_crop_weights(
    method: SelfTrained, items: Items, encoder: ClipEncoder, *, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of 16 random crops per image by [CLS] features (FAIR, equation 12) and by a softmax.

    Parameters
    ----------
    method : SelfTrained
        A fitted method.
    items : Items
        n images.
    encoder : ClipEncoder
        Encoder that the method was fitted on.
    seed : int, default=0
        Of the crops.

    Returns
    -------
    dict of str to Tensor
        Way of weighting and image tower, frozen or adapted → (n, 16). Cost: 34 n forward passes.
    """
    learner, _ = method._bind(encoder)
    data = CropBatches(items, encoder, crops=CROPS, seed=seed)
    batch = data.batch(torch.arange(len(data)), 0)
    found = {}
    for when, vision in (("frozen encoder", learner.towers.vision), ("after the fit", learner.vision())):
        whole = vision(batch.pixels)
        parts = [vision(few) for few in batch.chunks(encoder.batch_size)]
        classes, pooled = (
            torch.cat([getattr(part, kind)[0] for part in parts]).float().unflatten(0, (len(data), CROPS))
            for kind in ("classes", "pooled")
        )
        found[f"[CLS], {when}"] = crop_weights(whole.classes[0].float(), classes).cpu()
        found[f"softmax, {when}"] = softmax_weights(whole.pooled[0].float(), pooled).cpu()
    return found
