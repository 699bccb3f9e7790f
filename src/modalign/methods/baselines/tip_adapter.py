"""Tip-Adapter: a cache model of the labeled images added to zero-shot scores; Tip-Adapter-F trains its keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.baselines.tip_adapter_cache import Cache, ChosenCache
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Range, Seed, require_stop
from modalign.methods.contract.selection import share_correct, unit_held_out
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.vectors import Problem, VectorMethod

ALPHA, BETA = 1.0, 5.5  # the best values of the paper's two ablations on ImageNet; used without validation images
ALPHAS = tuple(np.geomspace(0.1, 100.0, 21).tolist())
BETAS = tuple(first * 2.0**octave for octave in range(11) for first in (0.1, 0.1 * 2**0.5))[:21]  # 0.1 … 102.4


@dataclass(kw_only=True, eq=False, repr=False)
class TipAdapter(VectorMethod):
    r"""Training-free cache model: similarities to labeled images are added to the zero-shot scores of their classes.

    With unit image :math:`\hat x`, unit keys :math:`F \in \mathbb{R}^{m \times d}`, their one-hot labels
    :math:`L \in \{0, 1\}^{m \times C}` and unit class texts t

    .. math:: s_c = 100\, \hat x^\top t_c
              + \alpha \sum_{i=1}^m \exp\bigl(-\beta (1 - \hat x^\top F_i)\bigr) L_{ic}

    (equations 4 to 6; 100 is the logit scale of CLIP). α weights the cache against the text, β is the sharpness of the
    similarity. Because the terms are summed, a good α decreases with the number of images per class. Without text,
    class means replace it. A class without a labeled image has its text only.

    Cost: the search, O(n_v m d) once, O(n_v m) per β and O(n_v C) per pair; O(m d) per image to score.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Weight of the cache; ``"auto"`` selects it on validation images.
    beta : float or "auto", default="auto"
        Sharpness of the cache; ``"auto"`` selects it on validation images.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on the validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        Inverse temperature of the zero-shot scores; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    keys_ : Tensor of shape (m, d)
        Unit features of the labeled images.
    key_classes_ : Tensor of shape (m,)
        Class of each key.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    alpha_, beta_ : float
        Values used.
    diagnosis_ : dict
        α and β, ``chosen_on`` (``"validation"`` or ``"nothing"``); with validation images the accuracy there, with the
        cache switched off and with the text switched off.

    References
    ----------
    .. [1] Zhang et al., "Tip-Adapter: training-free adaption of CLIP for few-shot classification", 2022,
       arXiv:2207.09519.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> tip = ma.TipAdapter().fit(X, y, text=T, validation=(Xv, yv))
    >>> tip.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Tip-Adapter"
    streams = True
    paper = (
        "Zhang et al., Tip-Adapter: training-free adaption of CLIP for few-shot classification, 2022, arXiv:2207.09519"
    )
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no cache": {"alpha": 0.0}}

    alpha: NonNegative | Literal["auto"] = "auto"
    beta: NonNegative | Literal["auto"] = "auto"
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        cache, validation = self._start(problem)
        chosen = None if validation is None else self._searched(cache, validation)
        self._keep(cache if chosen is None else chosen.cache)
        if validation is not None and chosen is not None:
            self._judge(chosen.logits, *validation)

    def _scores(self, X: Tensor) -> Tensor:
        keys, prototypes = self.keys_.to(X.device), self.prototypes_.to(X.device)
        classes = self.key_classes_.to(X.device)
        return Cache(keys, classes, prototypes, self.logit_scale_, self.alpha_, self.beta_).logits(unit(X))

    def head(self) -> Callable[[Tensor], Tensor]:
        owners = F.one_hot(self.key_classes_, len(self.prototypes_)).float()

        def logits(X: Tensor) -> Tensor:
            X = unit(X)
            votes = (self.beta_ * (X @ self.keys_.T - 1)).exp() @ owners
            return self.logit_scale_ * (X @ self.prototypes_.T) + self.alpha_ * votes

        return logits

    def _start(self, problem: Problem) -> tuple[Cache, tuple[Tensor, Tensor] | None]:
        """The untrained cache with α and β as given or as in the paper, and the validation images as unit rows."""
        X, self.key_classes_ = problem.labeled()
        cache = Cache(
            keys=unit(X),
            classes=self.key_classes_,
            prototypes=problem.prototypes(),
            logit_scale=self.logit_scale_,
            alpha=ALPHA if self.alpha == "auto" else float(self.alpha),
            beta=BETA if self.beta == "auto" else float(self.beta),
        )
        return cache, unit_held_out(problem.validation)

    def _searched(self, cache: Cache, validation: tuple[Tensor, Tensor]) -> ChosenCache:
        alphas = ALPHAS if self.alpha == "auto" else (cache.alpha,)
        betas = BETAS if self.beta == "auto" else (cache.beta,)
        return cache.search(*validation, alphas, betas, self.criterion)

    def _keep(self, cache: Cache) -> None:
        self.keys_, self.prototypes_ = cache.keys, cache.prototypes
        self.alpha_, self.beta_ = cache.alpha, cache.beta
        self.diagnosis_ = {
            "alpha": cache.alpha,
            "beta": cache.beta,
            "chosen_on": "nothing",
            "images_in_cache": len(cache.keys),
        }

    def _judge(self, logits: Tensor, X: Tensor, y: Tensor) -> None:
        """Calibrate on the logits of the validation images and add the accuracy there to the diagnosis."""
        text = self.logit_scale_ * (X @ self.prototypes_.T)
        self._calibrate(logits, y)
        self.diagnosis_ |= {
            "chosen_on": "validation" if "auto" in (self.alpha, self.beta) else "nothing",
            "validation_accuracy": share_correct(logits, y),
            "validation_accuracy_without_cache": share_correct(text, y),
            "validation_accuracy_without_text": share_correct(logits - text, y),
        }


@dataclass(kw_only=True, eq=False, repr=False)
class TipAdapterF(TipAdapter):
    r"""Tip-Adapter with keys trained by cross-entropy, initialized with the cache.

    Scores are those of :class:`TipAdapter`. The keys F minimize :math:`\mathrm{CE}(s, y)` over the labeled images by
    AdamW, along a half cosine; values and text stay fixed (section 3.3). The epoch, α and β are selected on
    `validation`, with the untrained cache among the candidates. Cost: O(m n d) per epoch for n = m labeled images.

    Parameters
    ----------
    epochs : int, default=20
        Passes over the labeled images.
    batch_size : int, default=256
        Images per step.
    learning_rate : float, default=0.001
        Initial learning rate of the cosine.
    weight_decay : float, default=0.01
        Decoupled weight decay of the keys.
    alpha, beta : float or "auto", default="auto"
        Weight of the cache, ``"auto"`` selects it on validation images; sharpness of the cache, with the same choice.
    training_alpha, training_beta : float or None, default=None
        α in training, None is `alpha`, or 1 for ``"auto"``; β in training, None is `beta`, or 5.5 for ``"auto"``.
    stop : int or None, default=None
        Epoch after which training ends, on the schedule of `epochs`; 0 keeps the untrained cache. None is the best on
        validation images, or the last.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on the validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        Inverse temperature of the zero-shot scores; None is that of the encoder.
    random_state : int or None, default=None
        Seed of the order of the images.

    Attributes
    ----------
    keys_ : Tensor of shape (m, d)
        Trained keys.
    key_classes_, prototypes_, alpha_, beta_ : object
        As in :class:`TipAdapter`.
    training_alpha_, training_beta_, stop_ : float
        Values used.
    losses_ : Tensor of shape (n_steps,)
        Training loss of every step.
    diagnosis_ : dict
        That of :class:`TipAdapter`; the selected ``epoch`` (0: untrained), ``keys_moved`` (mean of 1 − cosine), and
        with validation images the accuracy there ``without_training``.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> tip = ma.TipAdapterF(epochs=3, random_state=0).fit(X, y, text=T, validation=(Xv, yv))
    >>> tip.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Tip-Adapter-F"
    choices: ClassVar[tuple[str, ...]] = ("alpha", "beta", "training_alpha", "training_beta", "stop")

    epochs: Count = 20
    batch_size: Count = 256
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.01
    training_alpha: NonNegative | None = None
    training_beta: NonNegative | None = None
    stop: Annotated[int, Range(0)] | None = None

    def _fit(self, problem: Problem) -> None:
        require_stop(self.stop, self.epochs)
        start, validation = self._start(problem)
        self.training_alpha_ = start.alpha if self.training_alpha is None else float(self.training_alpha)
        self.training_beta_ = start.beta if self.training_beta is None else float(self.training_beta)
        if validation is None:
            self.stop_ = self.epochs if self.stop is None else self.stop
            final, self.losses_ = self._trained(start)
            self._keep(final)
        else:
            self.stop_, (final, logits), untrained = self._selected(start, validation)
            self._keep(final)
            self._judge(logits, *validation)
        self.diagnosis_ |= {
            "epoch": self.stop_,
            "keys_moved": 1 - (start.keys * unit(final.keys)).sum(dim=1).mean().item(),
        }
        if validation is not None:
            self.diagnosis_["validation_accuracy_without_training"] = share_correct(untrained.logits, validation[1])

    def _selected(self, start: Cache, validation: tuple[Tensor, Tensor]) -> tuple[int, ChosenCache, ChosenCache]:
        """The best epoch, its cache with α and β chosen for it, and the untrained cache with its own."""
        X, y = validation
        epochs, ends = Best[tuple[int, Cache]](self.criterion, y), Best[tuple[int, ChosenCache]](self.criterion, y)

        def judge(epoch: int, cache: Cache) -> None:
            if self.stop in (None, epoch):
                now = cache.logits(X) / cache.logit_scale
                epochs.offer(now, lambda: (epoch, replace(cache, keys=cache.keys.clone())))

        _, self.losses_ = self._trained(start, judge)
        untrained = self._searched(start, validation)
        candidates = [(0, untrained)] if self.stop in (None, 0) else []
        if not epochs.empty:
            epoch, cache = epochs.choice
            candidates.append((epoch, self._searched(replace(cache, alpha=start.alpha, beta=start.beta), validation)))
        for choice in candidates:
            ends.offer_value(choice[1].logits / start.logit_scale, choice)
        return *ends.choice, untrained

    def _trained(self, start: Cache, judge: Callable[[int, Cache], None] | None = None) -> tuple[Cache, Tensor]:
        """Return the cache after the last epoch and the loss of every step; ``judge`` is called after every epoch."""
        generator, X, classes = seeded(self.random_state_), start.keys, start.classes
        cache = replace(start, keys=start.keys.clone(), alpha=self.training_alpha_, beta=self.training_beta_)
        text = start.text_logits(start.keys)
        rows = [
            batch
            for _ in range(self.epochs)
            for batch in torch.randperm(len(X), generator=generator).to(X.device).split(self.batch_size)
        ]
        per_epoch = len(rows) // self.epochs

        def gradients(step: int) -> tuple[Tensor, list[Tensor]]:
            # s = text + α L φ, φ = exp(−β (1 − F xᵀ)): ∂CE/∂F = α β (φ ∘ Lᵀ (softmax − one-hot)) x
            x, own = X[rows[step]], classes[rows[step]]
            near = (cache.keys @ x.T).sub_(1).mul_(cache.beta).exp_()
            logits = text[rows[step]].T.index_add(0, classes, near, alpha=cache.alpha)
            likelihood = torch.log_softmax(logits, dim=0)
            loss = -likelihood.gather(0, own[None]).mean()
            slope = near.mul_(likelihood.exp_().sub_(F.one_hot(own, len(likelihood)).T)[classes])
            return loss, [(slope @ x).mul_(cache.alpha * cache.beta / len(x))]

        rates = cosine_rates(len(rows), self.learning_rate)[: None if self.stop is None else self.stop * per_epoch]
        losses = descend(
            [Descent(cache.keys, rates, self.weight_decay)],
            gradients,
            None if judge is None else lambda step: judge(step // per_epoch, cache),
            range(per_epoch, len(rows) + 1, per_epoch),
        )
        return replace(cache, alpha=start.alpha, beta=start.beta), losses[:, 0]
