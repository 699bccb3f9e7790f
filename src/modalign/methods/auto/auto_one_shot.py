"""The automatic choice with one labeled image per class, where no image can be held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modalign.linalg.calibration import expected_temperature
from modalign.methods.auto.auto_pool import candidate_names, fit_member
from modalign.methods.contract.sharing import clock
from modalign.methods.contract.vectors import Problem, VectorMethod

ANCHORED = ("anchored_gaussian", "clap")  # both start from the class texts, and their errors are on different images
WITHOUT_TEXT = {"anchored_gaussian": 0.75, "gda": 0.25}  # weights, picked on training images
TEXT_WORTH = 10.0  # labeled images at which zero-shot has half of the weight


@dataclass(frozen=True)
class OneShotMixture:
    """Mixture of zero-shot and candidates with fixed weights.

    Attributes
    ----------
    fitted : dict of str to VectorMethod
        Name → the candidate.
    weights : dict of str to float
        Name → share of the log-probabilities.
    temperatures : dict of str to float
        Name → divisor of the scores of the candidate.
    temperature : float
        Of the weighted mean.
    table : list of dict
        A row per candidate, see :class:`~modalign.methods.auto.auto.Auto`.
    """

    fitted: dict[str, VectorMethod]
    weights: dict[str, float]
    temperatures: dict[str, float]
    temperature: float
    table: list[dict[str, Any]]

    @classmethod
    def fit(
        cls, problem: Problem, candidates: tuple[str, ...] | list[str] | None, seed: int, deadline: float
    ) -> OneShotMixture:
        r"""Fit the mixture: with text zero-shot and the candidates with equal weights, else two Gaussian discriminants.

        From n labeled images that show a share p of the classes, the candidates have the weight

        .. math:: \lambda = p\, \frac{n}{n + 10}

        together and zero-shot has the rest. A held-out only image of a class gives no valid estimate, since training
        on the other classes biases the predictions against it. Only zero-shot was not fitted on the labeled images, so
        the temperature is that of its scores for them, shrunk toward 1 (see
        :func:`~modalign.linalg.calibration.expected_temperature`).

        Without text, the anchored Gaussian has the weight 3/4 and GDA 1/4, each at its own temperature. GDA does not
        learn from unlabeled images, so it has no part where there are some.

        Parameters
        ----------
        problem : Problem
            With at least one labeled image.
        candidates : tuple of str, list of str or None
            Names. None is :data:`ANCHORED`, to which zero-shot is added, or without text :data:`WITHOUT_TEXT`. Without
            text, other names have equal weights.
        seed : int
            Of the candidates.
        deadline : float
            By the monotonic clock. After it, no candidate but the first is started.
        """
        X, y = problem.labeled()
        with_text, alone = problem.text is not None, len(X) < len(problem.X)
        usual = ANCHORED if with_text else tuple(WITHOUT_TEXT)[: 2 - alone]
        names = candidate_names(candidates, usual, with_text=with_text)
        fitted: dict[str, VectorMethod] = {}
        seconds = {}
        for name in names:
            started = clock()
            if len(fitted) < 1 + with_text or started < deadline:
                fitted[name] = fit_member(name, problem, seed)
            seconds[name] = round(clock() - started, 2)
        if with_text:
            learned = [name for name in fitted if name != "zero_shot"]
            share = len(y.unique()) / problem.n_classes * len(y) / (len(y) + TEXT_WORTH) if learned else 0.0
            weights = {name: share / len(learned) for name in learned} | {"zero_shot": 1 - share}
            temperatures = dict.fromkeys(fitted, 1.0)
            temperature = expected_temperature(fitted["zero_shot"]._scores(X), y)
        else:
            parts = WITHOUT_TEXT if fitted.keys() <= WITHOUT_TEXT.keys() else dict.fromkeys(fitted, 1.0)
            parts = {name: parts[name] for name in fitted}
            weights = {name: part / sum(parts.values()) for name, part in parts.items()}
            temperatures, temperature = {name: fitted[name].temperature_ for name in fitted}, 1.0
        unknown = {"accuracy": None, "log_loss": None}
        table = [
            {"name": name, **unknown, "weight": round(weights.get(name, 0.0), 3), "seconds": seconds[name]}
            for name in names
        ]
        return cls(fitted, weights, temperatures, temperature, table)
