r"""DAM: hierarchical prompts in both towers, aligned with the frozen features by closed-form ridge regression.

Prompts as in HPT (:mod:`modalign.methods.dam.hpt`) are trained. Features are computed with the prompts and without:
class texts :math:`f_R` and :math:`f_D`, images :math:`f_I` and, of a second random view, :math:`f_A`, all of unit
length. Same-modal alignment (SMA) fits one ridge map per feature,

.. math::
    W_T &= \arg\min \lVert W f_R - f_D \rVert^2 + \lambda \lVert W \rVert^2 && (1) \\
    \hat f_D &= \bigl(\rho I + (1 - \rho) W_T\bigr) f_R = \rho f_R + (1 - \rho)\, \kappa f_D, \quad
        \kappa = \frac{\lVert f_R \rVert^2}{\lVert f_R \rVert^2 + \lambda} && (2\text{–}5) \\
    L_{\mathrm{SMA}} &= 2 - \cos(f_D, \hat f_D) - \cos(f_A, \hat f_A) && (6)

and the same for images. Cross-modal alignment (CMA) adds residuals of ridge maps between image and text to the
cosine (equations 7 to 11 in :class:`~modalign.methods.dam.cma.CMA`). The logits are 100 d, and the loss is

.. math:: L = L_{\mathrm{CE}} + \nu L_{\mathrm{SMA}} \qquad (13)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from torch import Generator

from modalign.core.errors import InputError
from modalign.core.renaming import OFFICIAL, Formerly
from modalign.methods.contract.parameters import NonNegative
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.dam_alignment import DAMAlignment, Directions, Maps, Modalities, TextMap
from modalign.methods.dam.dam_learner import DAMLearner
from modalign.methods.dam.hierarchical_text import HierarchicalText
from modalign.methods.dam.hpt import HPT
from modalign.methods.dam.hpt_learner import HPTLearner
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import Prompts

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class DAM(HPT):
    r"""Dual alignment: prompts in both towers of CLIP, aligned with the frozen features in closed form.

    The prompts of :class:`~modalign.methods.dam.hpt.HPT` with a same-modal alignment loss (SMA), and residuals of ridge
    maps between image and text in the score (CMA). Equations: :mod:`modalign.methods.dam.dam`.

    Parameters
    ----------
    preset : {"paper", "official_code"}, default="paper"
        The equations of the paper, or what the published code computes.
    sma : {"both", "text", "image", "none"}, default="both"
        Modalities that are aligned.
    cma : {"pairwise", "sets", "none"}, default="pairwise"
        As published, on sets of prompts, or the cosine alone.
    directions : {"both", "image-to-text", "text-to-image"}, default="both"
        Maps of CMA.
    maps : {"closed-form", "learned", "sma", "cma"}, default="closed-form"
        Closed-form maps, or trained ones in both alignments or in one of them.
    text_map : {"own", "shared"}, default="own"
        One map per class in SMA, or one for all classes by ridge regression.
    aligned_weight : float or None, default=None
        m, weight of the aligned features; None is that of the preset, 0.1 in ``"official_code"``.
    loss_weight : float, default=8.0
        ν.
    frozen_terms : bool, default=False
        Average the logits with those of prompted against frozen features.
    augmentation : str or list of str, default="random_resized_crop"
        Image augmentation, or one for the prompted and one for the frozen tower. The text of the paper has
        ``["center", "random_resized_crop"]``, its code the default.

    Attributes
    ----------
    tensors_ : dict of str to Tensor
        Trained parameters, and the ``text_features`` (K, d) used in prediction.
    diagnosis_ : dict
        ``parameters`` with the encoder; ``seconds_per_epoch``; λ, ρ, μ, α, ω and β; ``cma_spread``, the standard
        deviation of d_CMA over the classes (0: a constant); shares of decisions ``changed_by_sma``, ``changed_by_cma``.

    References
    ----------
    .. [1] Lu et al., "Fine-tuning via linked domains: a closed-form dual alignment mechanism (DAM)".
    .. [2] Wang et al., "Learning hierarchical prompt with structured linguistic knowledge (HPT)", AAAI 2024.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.DAM(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "DAM (dual alignment)"
    paper = (
        "Lu et al., Fine-tuning via linked domains: a closed-form dual alignment mechanism for transferring "
        "vision-language models"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "HPT, no alignment": {"sma": "none", "cma": "none"},
        "no same-modal alignment": {"sma": "none"},
        "no cross-modal alignment": {"cma": "none"},
        "cross-modal alignment of sets": {"cma": "sets"},
        "trained maps": {"maps": "learned"},
        "from image to text alone": {"directions": "image-to-text"},
        "from text to image alone": {"directions": "text-to-image"},
    }

    preset: Annotated[Literal["paper", "official_code"], OFFICIAL] = "paper"
    sma: Modalities = "both"
    cma: Literal["pairwise", "sets", "none"] = "pairwise"
    directions: Directions = "both"
    maps: Maps = "closed-form"
    text_map: TextMap = "own"
    aligned_weight: Annotated[NonNegative | None, Formerly("mixing")] = None
    loss_weight: NonNegative = 8.0
    frozen_terms: bool = False

    def _learner(self, towers: Towers, generator: Generator) -> HPTLearner:
        if isinstance(self.augmentation, list) and len(self.augmentation) != 2:
            raise InputError(
                "Expected two augmentations, of the prompted and of the frozen tower's view, or one name for both, "
                f"got {self.augmentation!r}."
            )
        return super()._learner(towers, generator)

    def _assembled(self, towers: Towers, visual: Prompts, text: HierarchicalText | None) -> DAMLearner:
        return DAMLearner(towers, visual, text, self._alignment(towers), self.loss_weight)

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> ImageBatches:
        two = [self.augmentation] * 2 if isinstance(self.augmentation, str) else self.augmentation
        return ImageBatches(items, encoder, augmentation=two, seed=seed)

    def _diagnose(self, learner: HPTLearner, data: ImageBatches) -> dict[str, Any]:
        assert isinstance(learner, DAMLearner)
        found = super()._diagnose(learner, data)
        return {**found, **learner.scalars(), **learner.effect(data, self.batch_size)}

    def _alignment(self, towers: Towers) -> DAMAlignment:
        return DAMAlignment(
            official_code=self.preset == "official_code",
            aligned_weight=self.aligned_weight,
            same_modal=self.sma,
            text_map=self.text_map,
            cross_modal=self.cma,
            directions=self.directions,
            maps=self.maps,
            width=towers.vision.dim,
            image_rows=self.batch_size,
            frozen_terms=self.frozen_terms,
            logit_scale=towers.logit_scale,
        )
