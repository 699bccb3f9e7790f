"""The cache model of Tip-Adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from modalign.methods.contract.best_candidate import Best, Criterion

BLOCK = 2**18  # affinities that are worked on at once: 1 MB, which stays in the cache of a core
IMAGES = 1024  # of a block
SAMPLE = 2**19  # scores of the held-out images that find the β from which all of them climb


@dataclass(frozen=True)
class Cache:
    """Keys (m, d), their classes (m,), texts (C, d), α, β and the logit scale."""

    keys: Tensor
    classes: Tensor
    prototypes: Tensor
    logit_scale: float
    alpha: float
    beta: float

    def votes(self, X: Tensor, betas: Sequence[float]) -> Tensor:
        """Σ exp(−β (1 − x F)) over the keys F of each class: unit rows x (n, d) → (betas, n, C).

        Affinities are computed once. If a value is twice an earlier β, its exponentials are the squares of the earlier
        ones.
        """
        order = self.classes.argsort(stable=True)  # the sums of a class stay in the cache
        keys, classes = self.keys[order], self.classes[order]
        found = X.new_empty(len(betas), len(X), len(self.prototypes))
        for rows, part in zip(X.split(IMAGES), found.split(IMAGES, dim=1), strict=True):
            sums = X.new_zeros(len(betas), len(self.prototypes), len(rows))
            step = max(1, BLOCK // max(1, len(rows)))
            for some, owners in zip(keys.split(step), classes.split(step), strict=True):
                distances, powers = (some @ rows.T).sub_(1), dict[float, Tensor]()
                for beta, total in zip(betas, sums, strict=True):
                    half = powers.pop(beta / 2, None)
                    powers[beta] = (distances * beta).exp_() if half is None else half.square_()
                    total.index_add_(0, owners, powers[beta])
            part.copy_(sums.mT)
        return found

    def text_logits(self, X: Tensor) -> Tensor:
        """(n, C) zero-shot logits of unit rows."""
        return self.logit_scale * (X @ self.prototypes.T)

    def logits(self, X: Tensor) -> Tensor:
        """(n, C) logits of unit rows."""
        return torch.add(self.text_logits(X), self.votes(X, [self.beta])[0], alpha=self.alpha)

    def search(
        self, X: Tensor, y: Tensor, alphas: Sequence[float], betas: Sequence[float], criterion: Criterion
    ) -> ChosenCache:
        """Select the best pair on held-out images; see :meth:`~modalign.methods.contract.best_candidate.Best.climb`.

        With many images, β is first selected on a random part; the search on all images starts there.
        """
        best, text = Best[ChosenCache](criterion, y), X @ self.prototypes.T
        enough = max(1, SAMPLE // len(self.prototypes))
        if len(y) < 2 * enough:
            self._offer(best, X, text, alphas, betas)
            return best.choice.scaled()
        some = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:enough].to(y.device)
        sample = self.search(X[some], y[some], alphas, betas, criterion)
        start, tried = betas.index(sample.cache.beta), set[int]()
        while window := {at for at in (start - 1, start, start + 1) if 0 <= at < len(betas)} - tried:
            self._offer(best, X, text, alphas, [betas[at] for at in sorted(window)])
            start, tried = betas.index(best.choice.cache.beta), tried | window
        return best.choice.scaled()

    def _offer(
        self, best: Best[ChosenCache], X: Tensor, text: Tensor, alphas: Sequence[float], betas: Sequence[float]
    ) -> None:
        for beta, votes in zip(betas, self.votes(X, betas), strict=True):
            votes /= self.logit_scale
            replace(self, beta=beta)._climb(best, alphas, text, votes)

    def _climb(self, best: Best[ChosenCache], alphas: Sequence[float], text: Tensor, votes: Tensor) -> None:
        def scores(alpha: float) -> Tensor:
            return torch.add(text, votes, alpha=alpha)

        best.climb(alphas, scores, lambda alpha: ChosenCache(replace(self, alpha=alpha), scores(alpha)))


class ChosenCache(NamedTuple):
    """A cache and its logits (n, C) of the held-out images that it was chosen on."""

    cache: Cache
    logits: Tensor

    def scaled(self) -> ChosenCache:
        """With the scores of the search, which have the size of cosines, at the logit scale of the cache."""
        return self._replace(logits=self.logits * self.cache.logit_scale)
