"""Calibrated log-probabilities of several models, and the weighted ensemble with the lowest held-out log-loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.calibration import fit_temperature, sharpened

ROUNDS = 25  # of the greedy search; weights are multiples of about 1/25
GAIN = 1e-4  # minimum gain in nats per image of a further member


@dataclass(frozen=True)
class Ensemble:
    """Weights of some models and the temperatures that make them comparable.

    Attributes
    ----------
    weights : dict of str to float
        Name → positive weight, sum 1; models without weight are absent.
    temperatures : dict of str to float
        Name → divisor of its logits before the softmax.
    sharpness : float
        Factor of the weighted mean of the log-probabilities, which calibrates the predictions it was fitted on.
    final_sharpness : float
        The same for models that learn from more images; at least ``sharpness``.
    """

    weights: dict[str, float]
    temperatures: dict[str, float]
    sharpness: float
    final_sharpness: float

    def combine(self, logits: Mapping[str, Tensor]) -> Tensor:
        """(n, C) logits of the ensemble, calibrated; ``logits`` has those of at least the models with a weight."""
        parts = (w * log_probabilities(logits[m], self.temperatures[m]) for m, w in self.weights.items())
        return self.sharpness * sum(parts, torch.zeros(()))


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """(n, C) log-softmax in float64, since differences of hundreds of nats are common."""
    return (logits.double() / temperature).log_softmax(dim=1)


def temperature_of(logits: Tensor, y: Tensor) -> float:
    """Return the temperature with the highest likelihood of the labels (n,)."""
    return fit_temperature(logits.double(), y)


def greedy_ensemble(logits: Mapping[str, Tensor], y: Tensor, *, growth: float = 1.0) -> Ensemble:
    """Forward selection with replacement over out-of-fold predictions.

    Each round adds the model whose calibrated log-probabilities increase the likelihood of the mean most. The search
    ends when the gain is less than 10⁻⁴ nats per image. The result may be a single model, such as zero-shot.

    Parameters
    ----------
    logits : mapping of str to Tensor
        Name → (n, C) held-out predictions for the same n images.
    y : Tensor of shape (n,)
        Class indices.
    growth : float, default=1.0
        Ratio of the labeled images per class of the final models to those of these models, see
        :func:`~modalign.linalg.calibration.sharpened`.

    Returns
    -------
    Ensemble
        Cost O(rounds · models · n C).

    References
    ----------
    Caruana et al., Ensemble selection from libraries of models, ICML 2004.
    """
    temperatures = {name: temperature_of(found, y) for name, found in logits.items()}
    calibrated = {name: log_probabilities(found, temperatures[name]) for name, found in logits.items()}
    counts: dict[str, int] = {}
    total, best = torch.zeros_like(next(iter(calibrated.values()))), -math.inf
    for number in range(1, ROUNDS + 1):
        likelihoods = {
            name: -F.nll_loss(((total + own) / number).log_softmax(dim=1), y).item() for name, own in calibrated.items()
        }
        name = max(likelihoods, key=likelihoods.__getitem__)
        if likelihoods[name] < best + GAIN:
            break
        best, total = likelihoods[name], total + calibrated[name]
        counts[name] = counts.get(name, 0) + 1
    size = sum(counts.values())
    mean = total / size
    sharpness = 1 / temperature_of(mean, y)
    final = sharpened(mean, sharpness, growth)
    return Ensemble({name: count / size for name, count in counts.items()}, temperatures, sharpness, final)
