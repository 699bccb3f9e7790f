"""The automatic choice without labels: predictions on which different methods agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modalign.methods.auto.auto_pool import candidate_names, fit_member
from modalign.methods.contract.sharing import clock
from modalign.methods.contract.transduction import Likeliest, all_probabilities, likeliest
from modalign.methods.contract.vectors import Problem, VectorMethod

WITHOUT_LABELS = ("anchored_gaussian", "gpua")
SLOWER = 5  # a candidate may take this many times as long as all before it
ROWS = 4096  # images that are combined at a time
FLOOR = 1e-12  # least probability that a method can give to a class of a fitted image


@dataclass(frozen=True)
class Agreement:
    """Candidates that were fitted to the same images, zero-shot last.

    Attributes
    ----------
    fitted : dict of str to VectorMethod
        Name → the candidate.
    table : list of dict
        A row per candidate, see :class:`~modalign.methods.auto.auto.Auto`.
    """

    fitted: dict[str, VectorMethod]
    table: list[dict[str, Any]]

    @classmethod
    def fit(
        cls, problem: Problem, candidates: tuple[str, ...] | list[str] | None, seed: int, seconds: float
    ) -> Agreement:
        """Fit candidates in turn, as long as :data:`SLOWER` times what was used so far does not exceed ``seconds``."""
        names = candidate_names(candidates, WITHOUT_LABELS, with_text=True)
        began = clock()
        fitted: dict[str, VectorMethod] = {}
        table: list[dict[str, Any]] = []
        for name in (*(name for name in names if name != "zero_shot"), "zero_shot"):
            started = clock()
            row = {"name": name, "accuracy": None, "log_loss": None, "weight": 0.0}
            if name == "zero_shot" or not fitted or SLOWER * (started - began) < seconds:
                fitted[name] = fit_member(name, problem, seed)
            table.append(row | {"seconds": round(clock() - started, 2)})
        return cls(fitted, table)

    def answers(self, X: Tensor) -> tuple[Likeliest, float]:
        """Return combined predictions of the fitted images, and the share on which the candidates agree."""
        blocks, same = [], 0
        for rows in torch.arange(len(X)).split(ROWS):
            parts = [self._log_probabilities(method, X, rows) for method in self.fitted.values()]
            blocks.append(likeliest(agreed(parts).exp()))
            same += int(_agree(parts).sum())
        return Likeliest(*(torch.cat(parts) for parts in zip(*blocks, strict=True))), same / len(X)

    def _log_probabilities(self, method: VectorMethod, X: Tensor, rows: Tensor) -> Tensor:
        """(r, C) log-probabilities of some fitted images; transductive ones if the method has them."""
        kept = getattr(method, "fitted_answers_", None)
        if kept is None:
            return method._scores(X[rows.to(X.device)]).double().log_softmax(dim=1)
        P = all_probabilities(Likeliest(kept["classes"][rows], kept["probabilities"][rows]), len(method.classes_))
        return P.clamp_min(FLOOR).log().to(X.device)


def agreed(log_probabilities: Sequence[Tensor]) -> Tensor:
    """Combine (n, C) log-probabilities of several methods, zero-shot last.

    If the others have the same likeliest class, the result is the normalized mean of their log-probabilities, else it
    is that of zero-shot.
    """
    others, zero_shot = log_probabilities[:-1] or log_probabilities, log_probabilities[-1]
    mean = torch.stack([*others]).mean(dim=0).log_softmax(dim=1)
    return torch.where(_agree(log_probabilities)[:, None], mean, zero_shot)


def _agree(log_probabilities: Sequence[Tensor]) -> Tensor:
    """(n,) whether all but the last, which is zero-shot, have the same likeliest class."""
    best = torch.stack([part.argmax(dim=1) for part in log_probabilities[:-1] or log_probabilities])
    return (best == best[0]).all(dim=0)
