r"""FAIR: self-training on unlabeled images, with pseudo-labels from the crops most similar to the image.

Of every image x, N squares p_i of side λ min(H, W), λ ~ U(α, β), are cropped. With f the projected features of the
current image tower and f^C its [CLS] token before the projection,

.. math::
    \tilde w_i &= \cos(f^C, f^C_i) / \textstyle\sum_l \cos(f^C, f^C_l) && (12) \\
    \psi_y &= \textstyle\sum_{i \in I_k} \tilde w_i \cos(f_i, Z_y), \quad
    \hat y = \arg\max_y \psi_y && (13, 14) \\
    \gamma &= S_1 |S_1 - S_2| && (16) \\
    \mathcal L &= \mathrm{E}\bigl[-\gamma \log p_{\hat y}(A(x))\bigr]
    - \tfrac1K \textstyle\sum_j \log \bar p_j && (17)

I_k are the k crops of largest weight, S₁ and S₂ the two largest scores, p = softmax(s cos(f(A(x)), Z)) the
prediction for a strong view A(x), and p̄ its moving average. No gradient flows through ŷ and γ. Trained are the
layer norms of the image tower and the class embeddings Z, which start as the mean direction of the prompts. New
images are compared with Z as a whole. The last epoch is the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from torch import Generator

from modalign.core.child_processes import launched
from modalign.core.errors import InputError, hyperparameter
from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.fair_score import Prior, Scale, Weighting
from modalign.methods.fair.fair_training import SelfTraining, SelfTrainingSettings
from modalign.methods.fair.pseudo_labels import LABELERS, Labeler
from modalign.methods.fair.self_training import SelfTrained
from modalign.tune.crops import CropBatches

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class FAIR(SelfTrained):
    r"""Self-training of the image encoder with pseudo-labels from crops; needs class names and no labels.

    Trains layer norms and class embeddings Z; Z scores new images. Equations: :mod:`modalign.methods.fair.fair`.

    Parameters
    ----------
    crops, keep : int or None, default=16 and 4
        N, crops per image; k, the number of crops that is used, where None is all.
    smallest_crop, largest_crop : float, default=0.5 and 0.9
        α, least side of a crop, as a share of the shorter side of the image; β, largest side of a crop.
    view : {"crops", "global"}, default="crops"
        Input of the pseudo-labels: the crops, or one random resized crop (FAIR-g).
    crop_from : {"picture", "weak"}, default="picture"
        Source of the crops: the whole image, or a random rectangle of it, the weak view of Algorithm 1.
    labeler : {"fair", "clip", "cupl", "wca", "coder"}, default="fair"
        Score (:mod:`~modalign.methods.fair.pseudo_labels`); only "fair" uses `keep`, `alignment`, `crop_weights`.
    image_temperature, text_temperature : float, default=1.0
        Temperature of WCA's weights of crops; temperature of WCA's weights of prompts.
    wca_keep : int or None, default=None
        Crops that ``labeler="wca"`` uses, those of largest weight; None is all.
    wca_weights : {"softmax", "cls"}, default="softmax"
        Crop weights of ``labeler="wca"``: its own, or those of equation 12.
    alignment : {"learned", "fixed"}, default="learned"
        Compare crops with the current Z, or with the initial one.
    crop_weights : {"cls", "softmax"}, default="cls"
        Equation 12, or the softmax of projected features (equation 8, WCA).
    score_scale : {"prob", "raw", "logit"}, default="prob"
        Scale of S in γ: probabilities, ψ as printed, or logits.
    weighting : {"margin", "top", "none"}, default="margin"
        γ: equation 16, S₁, or 1.
    fairness_weight : float, default=1.0
        Weight of the fairness term.
    class_prior : {"uniform", "estimate"}, default="uniform"
        q in the fairness term −Σ q_j log p̄_j: 1/K as published, or the mean zero-shot probabilities.
    momentum : float or None, default=None
        Momentum of p̄; None is 0 below 512 classes and 0.5 above.
    refresh : int, default=1
        Recompute pseudo-labels every `refresh` epochs; 1 recomputes them in every epoch (Algorithm 1).
    trainable : {"layer_norms", "lora", "k_adaptation"}, default="layer_norms"
        Trained parameters of the image tower.
    learning_rate : float, default=1e-4
        Peak learning rate; 1e-6 in the paper for Food101 and SUN397.

    Attributes
    ----------
    transduction_ : ndarray of shape (n,)
        Class of each fitted image, −1 for images that could not be decoded.
    diagnosis_ : dict
        Per epoch the share of ``changed`` pseudo-labels, ``agreement`` of crops, ``divergence`` from uniform in nats,
        mean ``gamma`` and both losses; ``warning`` if the pseudo-labels collapsed.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> method = ma.FAIR(epochs=1, crops=2, keep=1, random_state=0)
    >>> model = ma.adapt(digits, method=method, unlabeled=True, classes=digits.class_names, mirror=False)
    >>> model.predict(digits.select([0]))[0].name
    'zero'
    """

    title = "FAIR"
    paper = "Ali, Silva, Arora and Khan, Towards fine-grained adaptation of CLIP via a self-trained alignment score"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "global views": {"view": "global"},
        "fixed score": {"alignment": "fixed"},
        "crops of the weak view": {"crop_from": "weak"},
        "all labels alike": {"weighting": "none"},
        "all crops": {"keep": None},
        "joint-space weights": {"crop_weights": "softmax"},
        "no fairness": {"fairness_weight": 0.0},
        "pseudo-labels of WCA": {"labeler": "wca"},
        "pseudo-labels of CuPL": {"labeler": "cupl", "view": "global"},
        "pseudo-labels after CODER": {"labeler": "coder"},
        "LoRA in place of layer norms": {"trainable": "lora"},
        "K-Adaptation in place of layer norms": {"trainable": "k_adaptation"},
    }

    crops: Count = 16
    keep: Count | None = 4
    smallest_crop: Fraction = 0.5
    largest_crop: Fraction = 0.9
    view: Literal["crops", "global"] = "crops"
    crop_from: Literal["picture", "weak"] = "picture"
    labeler: Annotated[Literal["fair", Labeler], Formerly("labeller")] = "fair"
    image_temperature: Positive = 1.0
    text_temperature: Positive = 1.0
    wca_keep: Count | None = None
    wca_weights: Literal["softmax", "cls"] = "softmax"
    alignment: Literal["learned", "fixed"] = "learned"
    crop_weights: Literal["cls", "softmax"] = "cls"
    score_scale: Annotated[Scale, Formerly("score")] = "prob"
    weighting: Weighting = "margin"
    fairness_weight: Annotated[NonNegative, Formerly("fairness")] = 1.0
    class_prior: Prior = "uniform"
    momentum: Fraction | None = None
    refresh: Count = 1

    def _learner(self, towers: Towers, generator: Generator | None) -> SelfTraining:
        if self.labeler in LABELERS and LABELERS[self.labeler].needs_crops and self.view == "global":
            raise InputError(
                f"Expected {hyperparameter('view', 'crops')} with {hyperparameter('labeler', self.labeler)}, whose "
                "score is made of crops, got 'global'."
            )
        kept = {"keep": self.keep, "wca_keep": self.wca_keep}
        for name, count in kept.items() if self.view == "crops" else ():
            if (count or 0) > self.crops:
                raise InputError(
                    f"Expected to keep at most all {self.crops} crops, got {hyperparameter(name, str(count))}."
                )
        if self.labeler != "wca" and (self.wca_keep, self.wca_weights) != (None, "softmax"):
            raise InputError(f"Expected {hyperparameter('labeler', 'wca')} with wca_keep and wca_weights.")
        if not 0 < self.smallest_crop <= self.largest_crop:
            raise InputError(
                f"Expected crops from a smallest to a largest side with 0 < smallest ≤ largest, got "
                f"{self.smallest_crop} and {self.largest_crop}."
            )
        if self.refresh > 1 and ((self.training or {}).get("drop_last") or launched()[1] > 1):
            raise InputError(
                f"Expected {hyperparameter('refresh', '1')} with drop_last or in several processes: labels are kept "
                "image by image."
            )
        if self.momentum == 1:
            raise InputError("Expected momentum below 1, with which the moving average would never move.")
        return SelfTraining(towers, SelfTrainingSettings.of(self), generator)

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> CropBatches:
        if self.view == "global":
            return self._pairs(items, encoder, seed)
        if self.labeler in LABELERS and not LABELERS[self.labeler].needs_crops:
            return self._pairs(items, encoder, seed, "center")
        side = (self.smallest_crop, self.largest_crop)
        weak, inside = ("random_resized_crop", "view") if self.crop_from == "weak" else ("center", "picture")
        return self._pairs(items, encoder, seed, weak, crops=self.crops, side=side, every=self.refresh, inside=inside)
