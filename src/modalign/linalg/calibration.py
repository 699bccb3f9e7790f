"""Temperature scaling and calibration errors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import class_indices, exact_dtype, float_tensor
from modalign.linalg.scale_search import ScaledState, best_scale

BINS = 15
SPREAD = 0.5  # σ, standard deviation of log T; picked on validation images of Caltech101 and on digits
DOUBLING = 0.5  # log-odds of a right answer for twice the labels per class; a cautious value set by hand
_FLATTEST = 1e-3  # a spread of the scaled logits at which all classes count as equally probable


def fit_temperature(logits: Real[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    r"""Return the temperature T of ``softmax(logits / T)`` that minimizes the negative log-likelihood.

    With :math:`\beta = 1/T` the objective
    :math:`\frac1n \sum_i \big[\log \sum_c e^{\beta z_{ic}} - \beta z_{i y_i}\big]` is convex; its derivative,
    the mean of :math:`E_p[z] - z_y`, is monotone, and its root is found by Newton steps kept inside a bracket.

    If every label has the highest logit, T is bounded by the rule of succession: the mean confidence does not exceed (n
    + 1) / (n + 2). If the logits do not favor the labels, all classes are equally probable.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        C ≥ 2, any scale; half precision and float32 are summed in float64.
    labels : Tensor of shape (n,)
        Class indices; one class only is allowed.

    Returns
    -------
    float
        T > 0; that of ``c * logits`` is c times that of ``logits``. Cost: about ten passes of O(n C), with
        bounded additional memory.

    Raises
    ------
    InputError
        No rows, fewer than two columns, labels outside 0…C − 1, NaN or infinity.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017, section 4.2.
    """
    z, y = _scores_and_labels(logits, labels, "logits")
    spread = float((z - z.mean(dim=1, keepdim=True)).double().square().mean().sqrt())
    if spread == 0.0:  # every row is constant: all temperatures give the same probabilities
        return 1.0
    return 1 / best_scale(z, y, lowest=_FLATTEST / spread)


def expected_temperature(logits: Real[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    r"""Estimate the temperature from few labels, with a log-normal prior around 1.

    .. math:: \max_T \sum_i \log \operatorname{softmax}(z_i / T)_{y_i} - \frac{(\log T)^2}{2 \sigma^2}

    The estimate is bounded for a single label and approaches :func:`fit_temperature` for many.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        Scores of the classes.
    labels : Tensor of shape (n,)
        Class indices.

    Returns
    -------
    float
        T. Cost: O(n C) per step of a bounded search.

    Raises
    ------
    InputError
        As for :func:`fit_temperature`.
    """
    from scipy.optimize import minimize_scalar  # late: predictions do without SciPy

    z, y = _scores_and_labels(logits, labels, "logits")

    def loss(log_temperature: float) -> float:
        return len(z) * ScaledState.at(z, y, math.exp(-log_temperature)).nll + (log_temperature / SPREAD) ** 2 / 2

    return math.exp(minimize_scalar(loss, bounds=(-6 * SPREAD, 6 * SPREAD), method="bounded").x)


def sharpened(logits: Real[Tensor, "n C"], scale: float, growth: float) -> float:
    """Scale for a model trained on more images than the models that ``scale`` was fitted for.

    Its accuracy is expected to be higher, so the mean confidence is raised by ½ log₂ ``growth`` in log-odds.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        Held-out logits; ``softmax(scale * logits)`` is calibrated.
    scale : float
        1 / T.
    growth : float
        Labeled images per class of the final model over those of the held-out models; no effect up to 1.

    Returns
    -------
    float
        Scale for the final model, at least ``scale``. Cost: 40 passes of O(n C).
    """
    if growth <= 1:
        return scale

    def confidence(factor: float) -> float:
        return (factor * logits).softmax(dim=1).amax(dim=1).mean().item()

    before = min(max(confidence(scale), 1e-6), 1 - 1e-6)
    wanted = 1 / (1 + math.exp(-math.log(before / (1 - before)) - DOUBLING * math.log2(growth)))
    low, high = scale, 64 * scale
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if confidence(middle) < wanted else (low, middle)
    return low


def expected_calibration_error(probabilities: Real[Tensor, "n C"], labels: Int[Tensor, " n"]) -> float:
    r"""Expected calibration error, :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|`.

    The sum is over 15 bins of (0, 1] of equal width. The confidence is the highest probability of a row; a row is
    correct if its first highest class is the label.

    Parameters
    ----------
    probabilities : Tensor of shape (n, C)
        Rows sum to 1.
    labels : Tensor of shape (n,)
        Class indices.

    Returns
    -------
    float
        Value in [0, 1].

    Raises
    ------
    InputError
        Rows do not sum to 1, or labels are outside 0…C − 1.

    References
    ----------
    Guo et al., 2017, equation 3.
    """
    p, y = _scores_and_labels(probabilities, labels, "probabilities")
    if bool((p < 0).any()) or float((p.double().sum(dim=1) - 1).abs().max()) > 1e-3:
        raise InputError("Expected probabilities that are non-negative and sum to 1 in every row; use softmax.")
    confidence = p.amax(dim=1).to(exact_dtype(p.device))
    right = (p.argmax(dim=1) == y).to(confidence.dtype)
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype, device=p.device)[1:-1]
    group = torch.bucketize(confidence, edges.contiguous())  # (edge, edge], as Guo et al. have it
    gap = torch.zeros(BINS, dtype=confidence.dtype, device=p.device).index_add_(0, group, right - confidence)
    return float(gap.abs().sum() / len(p))


def _scores_and_labels(scores: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    scores = float_tensor(scores, name, ndim=2).detach()
    if scores.shape[0] == 0 or scores.shape[1] < 2:
        raise InputError(f"Expected {name} of shape (n, C), n ≥ 1, C ≥ 2, got {tuple(scores.shape)}.")
    return scores, class_indices(labels, len(scores), scores.shape[1]).to(scores.device)
