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

import warnings
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from torch import Generator

from modalign.core.errors import InputError, argument, hyperparameter
from modalign.core.renaming import OFFICIAL, Formerly
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.parameters import Augmentations, Count, NonNegative
from modalign.methods.contract.prompting import PromptMethod, template_places
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.dam_alignment import PRESETS, DAMAlignment, Directions, Maps, Modalities, TextMap
from modalign.methods.dam.dam_learner import DAMLearner
from modalign.methods.dam.hpt import HierarchicalText
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import Prompts
from modalign.tune.topology import read_topology

if TYPE_CHECKING:
    from modalign.core.features import ClassText
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class DAM(PromptMethod):
    r"""Dual alignment: prompts in both towers of CLIP, aligned with the frozen features in closed form.

    Prompts as in HPT (:mod:`modalign.methods.dam.hpt`) with a same-modal alignment loss (SMA), and residuals of ridge
    maps between image and text in the score (CMA). Equations: :mod:`modalign.methods.dam.dam`.

    Parameters
    ----------
    preset : {"paper", "official_code"}, default="paper"
        The equations of the paper, or what the published code computes.
    structures : str or None, default=None
        JSON file with a graph per class in HPT's layout. If None, attention is not modified and a warning is issued.
    visual_prompts, global_prompts : int, default=2
        Prompts in every layer of the image tower; prompts in every layer of the text tower, for all classes.
    instance_prompts : int, default=5
        Prompts from the first descriptions of each class, or with a warning from the templates.
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
    epochs, batch_size : int, default=15 and 8
        Passes over the images, of which the first is a warmup; images per step.
    learning_rate : float, default=0.0025
        Of SGD with momentum 0.9 and weight decay 5e-4, along a cosine.
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
    structures: str | None = None
    visual_prompts: Count = 2
    global_prompts: Count = 2
    instance_prompts: Count = 5
    sma: Modalities = "both"
    cma: Literal["pairwise", "sets", "none"] = "pairwise"
    directions: Directions = "both"
    maps: Maps = "closed-form"
    text_map: TextMap = "own"
    aligned_weight: Annotated[NonNegative | None, Formerly("mixing")] = None
    loss_weight: NonNegative = 8.0
    frozen_terms: bool = False
    epochs: Count = 15
    batch_size: Count = 8
    learning_rate: NonNegative = 0.0025
    augmentation: Augmentations = "random_resized_crop"

    def for_classes(self, text: ClassText, encoder: ClipEncoder, *, structures: str | None = None) -> Self:
        """Apply the prompts to other classes.

        Parameters
        ----------
        text : ClassText
            Sentences of the new classes, their descriptions for the instance prompts.
        encoder : ClipEncoder
            Encoder that the method was fitted on.
        structures : str or None, default=None
            File with the graphs of the new classes; None for the one given to the constructor.

        Raises
        ------
        InputError
            The file has no graph of a class.
        """
        require_fitted(self)
        other = copy(self)
        other.structures = structures or self.structures
        instances = len(self.tensors_["text.first.layers.0"]) - self.global_prompts
        learner = other._prompted(Towers.open(encoder, text), instances, None)
        learner.to(encoder.device).restore(self.tensors_)
        other.tensors_ = {name: value.cpu() for name, value in learner.state().items()}
        return super(DAM, other).for_classes(text, encoder)

    def _learner(self, towers: Towers, generator: Generator) -> DAMLearner:
        if isinstance(self.augmentation, list) and len(self.augmentation) != 2:
            raise InputError(
                "Expected two augmentations, of the prompted and of the frozen tower's view, or one name for both, "
                f"got {self.augmentation!r}."
            )
        learner = self._prompted(towers, min(self.instance_prompts, max(map(len, towers.sentences))), generator)
        self._warn(towers)
        return learner

    def _prompted(self, towers: Towers, instances: int, generator: Generator | None) -> DAMLearner:
        """Create a learner with prompts in both towers and this number of instance prompts per class."""
        slots = self.global_prompts + instances
        topology = read_topology(self.structures, towers.text, towers.class_names, slots)
        visual = self._visual(towers, generator)
        text = HierarchicalText(
            towers.text,
            topology,
            towers.sentences,
            global_prompts=self.global_prompts,
            instance_prompts=instances,
            gradient_checkpointing=towers.gradient_checkpointing,
            generator=generator,
        )
        return DAMLearner(towers, visual, text, self._alignment(towers), self.loss_weight)

    def _served(self, towers: Towers) -> DAMLearner:
        return DAMLearner(towers, self._visual(towers, None), None, self._alignment(towers), self.loss_weight)

    def _batches(self, items: Items, encoder: ClipEncoder, seed: int) -> ImageBatches:
        two = [self.augmentation] * 2 if isinstance(self.augmentation, str) else self.augmentation
        return ImageBatches(items, encoder, augmentation=two, seed=seed)

    def _diagnose(self, learner: DAMLearner, data: ImageBatches) -> dict[str, Any]:
        assert learner.text is not None
        return {
            "knowledge": self._knowledge(learner.towers),
            **learner.text.summary,
            **learner.scalars(),
            **learner.effect(data, self.batch_size),
            "seconds_per_epoch": sum(learner.seconds) / max(1, len(learner.seconds)),
        }

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        frozen = sum(parameter.numel() for parameter in encoder.model.parameters())
        self.diagnosis_["parameters"] = frozen + self.diagnosis_["trainable"]

    def _visual(self, towers: Towers, generator: Generator | None) -> Prompts:
        return Prompts(self.visual_prompts, towers.vision.width, depth=towers.vision.depth, generator=generator)

    def _alignment(self, towers: Towers) -> DAMAlignment:
        options = {
            **PRESETS[self.preset],
            **({} if self.aligned_weight is None else {"aligned_weight": self.aligned_weight}),
        }
        return DAMAlignment(
            **options,
            same_modal=self.sma,
            text_map=self.text_map,
            cross_modal="off" if self.cma == "none" else self.cma,
            directions=self.directions,
            maps=self.maps,
            width=towers.vision.dim,
            image_rows=self.batch_size,
            frozen_terms=self.frozen_terms,
            logit_scale=towers.logit_scale,
        )

    def _knowledge(self, towers: Towers) -> str:
        described = "templates" if from_templates(towers) else "descriptions"
        return f"{described} and {'no structures' if self.structures is None else 'structures'}"

    def _warn(self, towers: Towers) -> None:
        missing = [
            ("descriptions", "its instance prompts come from the templates", argument("descriptions")),
            ("structures", "its attention is not steered by relations", hyperparameter("structures")),
        ]
        applies = [from_templates(towers), self.structures is None]
        lacking = [entry for entry, missed in zip(missing, applies, strict=True) if missed]
        if lacking:
            names, consequences, advice = zip(*lacking, strict=True)
            warnings.warn(
                f"DAM was given no {' and no '.join(names)}: {', and '.join(consequences)}; "
                f"see {' and '.join(advice)}.",
                stacklevel=4,
            )


def from_templates(towers: Towers) -> bool:
    """Return whether the sentences of the classes differ in the class names only."""
    places = template_places(towers.class_names, towers.sentences)
    return len(places) == max(map(len, towers.sentences))
