"""Zero-shot classification by the nearest class text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Positive, Seed
from modalign.methods.contract.selection import held_out, share_correct
from modalign.methods.contract.vectors import Problem, VectorMethod

CHUNK = 2**24  # numbers of one block of image-by-sentence cosines: 64 MB


@dataclass(kw_only=True, eq=False, repr=False)
class ZeroShot(VectorMethod):
    r"""Zero-shot CLIP with one prompt per class, an ensemble of templates, or descriptions (CuPL).

    With unit image vector :math:`\hat x` and unit sentence vectors :math:`\hat t_{cs}` of class c, s = 1…T_c,

    ``"mean-prototype"``: :math:`s_c = \hat x^\top \bar t_c / \lVert \bar t_c \rVert`,
    :math:`\bar t_c = \tfrac{1}{T_c} \sum_s \hat t_{cs}` (Radford et al. 2021, section 3.1.4; Pratt et al. 2023);

    ``"mean-score"``: :math:`s_c = \tfrac{1}{T_c} \sum_s \hat x^\top \hat t_{cs}` (Menon & Vondrick 2023, equation 1;
    CuPL in FAIR, equation 5);

    ``"max-score"``: :math:`s_c = \max_s \hat x^\top \hat t_{cs}`, for sentences that name different kinds of one
    class (Novack et al. 2023).

    The logits are `logit_scale` · s. With one prompt per class the three are equal. Labeled images are used without
    text only: their class means replace it, which is the nearest-mean classifier. `y` is optional if text is given.

    Cost: O(C T d) to fit, O(n C d) to score (O(n C T d) for ``"max-score"``).

    Parameters
    ----------
    aggregate : {"mean-prototype", "mean-score", "max-score"}, default="mean-prototype"
        Aggregation of the sentences of a class to one score.
    logit_scale : float or None, default=None
        Inverse temperature; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    prototypes_ : Tensor of shape (C, d)
        Class vectors whose inner products with the image are the scores; for ``"max-score"`` the (C, T, d) unit
        sentences.
    diagnosis_ : dict
        Number of sentences; ``closest_prototypes``, the largest cosine of two classes (near 1: two class names that the
        text encoder does not distinguish); ``sentence_agreement``, the mean cosine of a sentence with its class's mean
        direction; with validation its accuracy, and with several sentences also the accuracy of the first sentence
        alone, which shows the gain of the ensemble.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020.
    Pratt et al., What does a platypus look like? (CuPL), 2023, arXiv:2209.03320.
    Menon & Vondrick, Visual classification via description from large language models, 2023, arXiv:2210.07183.
    Novack et al., CHiLS: zero-shot image classification with hierarchical label sets, 2023, arXiv:2302.02551.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.ZeroShot().fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "Zero-shot CLIP"
    paper = (
        "Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020"
    )
    refits_to_calibrate: ClassVar[bool] = True
    needs_labels = False
    transfers = True
    takes_labels = False
    streams = True

    aggregate: Literal["mean-prototype", "mean-score", "max-score"] = "mean-prototype"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        directions = problem.prototypes()
        sentences = directions[:, None] if problem.text is None else unit(problem.text)
        present = (sentences != 0).any(dim=2)
        counts = present.sum(dim=1)
        if self.aggregate == "max-score":
            self.prototypes_ = sentences
        elif self.aggregate == "mean-score":
            self.prototypes_ = sentences.sum(dim=1) / counts.clamp_min(1)[:, None]
        else:
            self.prototypes_ = directions

        between = directions @ directions.T
        between.fill_diagonal_(-1)
        agreement = torch.einsum("ctd,cd->ct", sentences, directions)[present]
        self.diagnosis_ = {
            "classes": problem.n_classes,
            "sentences": int(counts.sum()) if problem.text is not None else 0,
            "closest_prototypes": between.max().item(),
            "sentence_agreement": agreement.mean().item(),
        }
        validation = held_out(problem.validation)
        if validation is not None:
            Xv, yv = validation
            self.diagnosis_["validation_accuracy"] = share_correct(self._scores(Xv), yv)
            if sentences.shape[1] > 1:
                first = unit(Xv) @ text_prototypes(sentences[:, :1]).T
                self.diagnosis_["validation_accuracy_first_sentence"] = share_correct(first, yv)

    def _scores(self, X: Tensor) -> Tensor:
        X, prototypes = unit(X), self.prototypes_.to(X.device)
        if prototypes.ndim == 2:
            return self.logit_scale_ * (X @ prototypes.T)
        C, T, d = prototypes.shape
        absent = (prototypes == 0).all(dim=2)
        rows = max(1, CHUNK // (C * T))
        blocks = []
        for block in X.split(rows):
            cosines = (block @ prototypes.reshape(C * T, d).T).view(len(block), C, T)
            blocks.append(cosines.masked_fill(absent, -torch.inf).amax(dim=2))
        return self.logit_scale_ * torch.cat(blocks)
