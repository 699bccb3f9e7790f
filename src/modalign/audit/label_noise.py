"""How often labels are wrong, in favor of which classes, and the predictions that this makes likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from modalign.linalg.calibration import fit_temperature

ROUNDS, STEPS = 12, 5  # of both parts in turn, and of expectation maximization in each
ENOUGH = 1e-5  # gain of mean log-likelihood at which they end
FURTHEST = np.log(20.0)  # by which log T may differ from that without errors
_LEAST_RATE, _MOST_RATE, _START = 1e-6, 0.5, 0.03


@dataclass(frozen=True, eq=False)
class LabelNoise:
    r"""Temperature of the predictions, and how labels were replaced.

    With :math:`p_{ij}` the softmax of the logits divided by the temperature T, an image of class j has the label j with
    probability :math:`1 - \varepsilon`, and another label k with :math:`\varepsilon q_{jk}`:

    .. math:: P(y_i) = \sum_j p_{ij} M_{j y_i}, \qquad M_{jk} = (1 - \varepsilon)\,[j = k] + \varepsilon\, q_{jk}

    Attributes
    ----------
    temperature : float
        T > 0.
    rate : float
        ε, the share of wrong labels.
    matrix : ndarray of shape (C, C)
        M: class → label.
    """

    temperature: float
    rate: float
    matrix: np.ndarray

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(n, C) probabilities p of the true classes, without regard to the labels."""
        return np.exp(log_softmax(logits / self.temperature, axis=1))

    def wrong(self, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(n,) probability that each label is wrong."""
        joint = probabilities * self.matrix.T[labels]
        return 1 - joint[np.arange(len(labels)), labels] / joint.sum(axis=1)


def fit_label_noise(logits: np.ndarray, labels: np.ndarray) -> LabelNoise:
    r"""The :class:`LabelNoise` under which the labels are most likely.

    The temperature that is fitted without errors is too high where there are some: every wrong label that the
    predictions contradict makes them flatter. So both are fitted in turn, the temperature by its derivative, ε and q by
    expectation maximization. With :math:`n_{jk}` expected labels k of images of class j ≠ k, the rule of succession

    .. math:: q_{jk} = \frac{n_{jk} + 1}{\sum_{l \neq j} n_{jl} + C - 1}

    keeps q near uniform unless the labels contain several errors of the same kind.

    Parameters
    ----------
    logits : ndarray of shape (n, C)
        Out-of-fold scores, C ≥ 2.
    labels : ndarray of shape (n,)
        Given class indices.

    Notes
    -----
    About a hundred passes of O(n C) at most, most often half as many.

    References
    ----------
    .. [1] Dawid and Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", 1979.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    flat = fit_temperature(torch.from_numpy(z), torch.from_numpy(y))
    n_classes = z.shape[1]
    uniform = (1 - np.eye(n_classes)) / (n_classes - 1)
    noise, least = LabelNoise(flat, _START, _matrix(_START, uniform)), np.inf
    for _ in range(ROUNDS):
        temperature, loss = _fit_temperature(z, y, noise, flat)
        p = np.exp(log_softmax(z / temperature, axis=1))
        rate, matrix = noise.rate, noise.matrix
        for _ in range(STEPS):
            rate, matrix = _step(p, y, matrix)
        noise = LabelNoise(temperature, rate, matrix)
        if least - loss < ENOUGH:
            break
        least = loss
    return noise


def _fit_temperature(z: np.ndarray, y: np.ndarray, noise: LabelNoise, flat: float) -> tuple[float, float]:
    """The temperature for the M of ``noise``, from its own on, and the mean negative log-likelihood."""
    of_label = noise.matrix.T[y]

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        temperature = flat * np.exp(at[0])
        joint = np.exp(log_softmax(z / temperature, axis=1))
        mean = np.einsum("ij,ij->i", joint, z)
        joint *= of_label
        likelihood = joint.sum(axis=1)
        slope = np.einsum("ij,ij->i", joint, z) / likelihood - mean  # of log-likelihood by 1 / T
        return -float(np.log(likelihood).mean()), np.array([slope.mean() / temperature])

    start, limits = np.log(noise.temperature / flat), [(-FURTHEST, FURTHEST)]
    found = minimize(loss, [start], jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 8})
    return float(flat * np.exp(found.x[0])), float(found.fun)


def _step(p: np.ndarray, y: np.ndarray, matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """One step of expectation maximization: ε and M from the expected true classes."""
    expected = p * matrix.T[y]
    expected /= expected.sum(axis=1, keepdims=True)
    counts = np.zeros_like(matrix)
    for label in np.unique(y):
        counts[:, label] = expected[y == label].sum(axis=0)
    rate = float(np.clip(1 - np.trace(counts) / len(y), _LEAST_RATE, _MOST_RATE))
    counts = (counts + 1) * (1 - np.eye(len(counts)))
    return rate, _matrix(rate, counts / counts.sum(axis=1, keepdims=True))


def _matrix(rate: float, elsewhere: np.ndarray) -> np.ndarray:
    return (1 - rate) * np.eye(len(elsewhere)) + rate * elsewhere
