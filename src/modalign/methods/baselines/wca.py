"""WCA: zero-shot classification with weighted crops and weighted descriptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.features import Features
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import softmax_weights, unit
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.parameters import Positive, Seed
from modalign.methods.contract.rows import read_parts
from modalign.methods.contract.selection import held_out, share_correct
from modalign.methods.contract.vectors import Problem, Rows, VectorMethod
from modalign.tune.threads import threads_for_vectors, using_threads


@dataclass(kw_only=True, eq=False, repr=False)
class WCA(VectorMethod):
    r"""Weighted visual-text cross alignment: weighted mean of the similarities of all crops and all descriptions.

    With unit vectors f of the whole image, f_i of its N crops, t_j of the M descriptions of a class y, and ȳ of its
    name in a sentence (equations 8 to 10 in FAIR's numbering),

    .. math::
        w_i = \mathrm{softmax}_i(f^\top f_i / \tau_w), \quad
        v_j = \mathrm{softmax}_j(\bar y^\top t_j / \tau_v), \quad
        \psi_y = \sum_{i=1}^N \sum_{j=1}^M w_i v_j f_i^\top t_j .

    The double sum is computed as one inner product, (Σ w_i f_i)ᵀ (Σ v_j t_j), of vectors that are not normalized. Crops
    are the ``tokens`` of :class:`~modalign.core.features.Features`, from
    :func:`~modalign.encoders.features.crop_features.embed_crops`; without them the whole image is the only crop, which
    is CuPL with weighted descriptions. Without text, class means replace it; images are not used otherwise. Cost: O(C M
    d) to fit, O(n (N + C) d) to score.

    In FAIR, the weights are printed without temperature, which makes them nearly uniform for unit vectors. Values used
    elsewhere are about e⁻⁴ ≈ 0.018 for images and e⁻² ≈ 0.135 for text.

    Parameters
    ----------
    image_temperature : float, default=1.0
        τ_w.
    text_temperature : float, default=1.0
        τ_v.
    reference : {"mean", "first"}, default="mean"
        ȳ: ``"mean"`` is the mean direction of all sentences of the class; ``"first"`` is the first sentence, "a photo
        of a NAME." in the paper, which is then not averaged itself unless it is the only one.
    logit_scale : float or None, default=None
        Factor of ψ in the logits; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    prototypes_ : Tensor of shape (C, d)
        Σ v_j t_j.
    diagnosis_ : dict
        Number of sentences; ``text_evenness``, the mean entropy of v as a share of that of even weights (at 1 the
        weights have no effect); with validation its accuracy on whole images.

    References
    ----------
    Li, Li, Erfani, Feng, Bailey and Liu, Visual-text cross alignment: refining the similarity score in vision-language
    models, ICML 2024.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.WCA().fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "WCA"
    paper = "Li et al., Visual-text cross alignment: refining the similarity score in vision-language models, ICML 2024"
    needs_labels = False
    takes_labels = False
    takes_parts: ClassVar[bool] = True
    scores_parts: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "even weights": {"image_temperature": 1e6, "text_temperature": 1e6}
    }

    image_temperature: Positive = 1.0
    text_temperature: Positive = 1.0
    reference: Literal["mean", "first"] = "mean"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _scored(self, X: Rows | Tensor | Features, finish: Callable[[Tensor], Tensor]) -> Tensor:
        """What ``finish`` makes of the scores; those of the crops where ``X`` are features that have them."""
        if not isinstance(X, Features) or X.tokens is None:
            return super()._scored(X, finish)
        require_fitted(self)
        with torch.no_grad(), using_threads(threads_for_vectors(X.tokens)):
            vectors = self._read_vectors(X, reset=False)
            parts = read_parts(X.tokens, vectors)
            weights = softmax_weights(vectors, parts, self.image_temperature)
            evidence = torch.einsum("bn,bnd->bd", weights, unit(parts))
            return finish(self.logit_scale_ * (evidence @ self.prototypes_.to(evidence.device).T))

    def _fit(self, problem: Problem) -> None:
        sentences = problem.prototypes()[:, None] if problem.text is None else unit(problem.text)
        weights = text_weights(sentences, self.text_temperature, self.reference)
        self.prototypes_ = torch.einsum("ct,ctd->cd", weights, sentences)
        counts = (described(sentences, self.reference)[1] != 0).any(dim=2).sum(dim=1)
        entropy = -torch.xlogy(weights, weights).sum(dim=1)
        several = counts > 1
        evenness = entropy[several] / counts[several].log() if bool(several.any()) else torch.ones(1)
        self.diagnosis_ = {"sentences": int(counts.sum()), "text_evenness": evenness.mean().item()}
        validation = held_out(problem.validation)
        if validation is not None:
            self.diagnosis_["validation_accuracy"] = share_correct(self._scores(validation[0]), validation[1])

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (unit(X) @ self.prototypes_.to(X.device).T)


def text_weights(sentences: Tensor, temperature: float, reference: Literal["mean", "first"]) -> Tensor:
    """Return the weights v (C, T) of the sentences (C, T, d), zero for padding and for the reference.

    Parameters
    ----------
    sentences : Tensor
        Unit vectors, padded with zero rows.
    temperature : float
        τ_v.
    reference : {"mean", "first"}
        See :class:`WCA`.
    """
    named, rest = described(sentences, reference)
    return softmax_weights(named, rest, temperature)


def described(sentences: Tensor, reference: Literal["mean", "first"]) -> tuple[Tensor, Tensor]:
    """Return the reference vector of each class, (C, d), and the sentences to be weighted, (C, T, d)."""
    if reference == "mean":
        return text_prototypes(sentences), sentences
    rest = sentences.clone()
    rest[(sentences != 0).any(dim=2).sum(dim=1) > 1, 0] = 0
    return sentences[:, 0], rest
