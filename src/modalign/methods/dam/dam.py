"""DAM: hierarchical prompts in both towers, held to the frozen features by ridge regressions in closed form."""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from sklearn.utils.validation import check_is_fitted
from torch import Generator

from modalign.core.errors import InputError, argument, hyperparameter
from modalign.core.renaming import OFFICIAL, Formerly
from modalign.methods.contract.parameters import Augmentations, Count, NonNegative
from modalign.methods.contract.prompting import PromptMethod, template_places
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.dam_alignment import PRESETS, DAMAlignment, Modalities, TextMap
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
    r"""Dual alignment: prompts learned in both towers of CLIP, aligned with the frozen features in closed form.

    The encoders are steered by the prompts of HPT (see :mod:`modalign.methods.dam.hpt`), and seen twice, with the
    prompts and frozen: class texts :math:`f_R` and :math:`f_D` (the mean direction of the descriptions), images
    :math:`f_I` and, of a second random view, :math:`f_A`. All are of unit length. **Same-modal alignment (SMA)** fits
    one ridge map a feature from prompted to frozen and keeps a share ρ of the prompted one,

    .. math::
        W_T &= \arg\min \lVert W f_R - f_D \rVert^2 + \lambda \lVert W \rVert^2 && (1) \\
        \hat f_D &= \bigl(\rho I + (1 - \rho) W_T\bigr) f_R = \rho f_R + (1 - \rho)\, \kappa f_D, \quad
            \kappa = \frac{\lVert f_R \rVert^2}{\lVert f_R \rVert^2 + \lambda} && (2\text{–}5) \\
        L_{\mathrm{SMA}} &= 2 - \cos(f_D, \hat f_D) - \cos(f_A, \hat f_A) && (6)

    and the same for images. **Cross-modal alignment (CMA)** adds to the cosine what ridge maps between image and text
    leave unexplained, equations 7 to 11 in :class:`~modalign.methods.dam.cma.CMA`; the logits are 100 d, and the loss
    is

    .. math:: L = L_{\mathrm{CE}} + \nu L_{\mathrm{SMA}} \qquad (13)

    The rank-one closed form costs O((B + K) c) where matrices cost O((B + K) c³). The eleven scalars λ, ρ, μ, α, ω and
    β are learned as in :class:`~modalign.methods.dam.dam_alignment.DAMAlignment`.

    **What acts.** The published CMA compares lengths, never an image with a text: on unit vectors d_CMA is −log K for
    every class, and only β remains, as a learnable temperature. ``cma="sets"`` does compare: what the prompted and the
    frozen feature of an image cannot rebuild of the prompted class text and of the descriptions, and the reverse.
    ``diagnosis_`` says what each part changed.

    Presets: ``"paper"`` scores the aligned features as the equations have them. ``"official_code"`` does as the
    published code: features :math:`\mathrm{unit}(f + m \hat f)` take the place of the aligned ones, in the score and in
    L_SMA. In both, n in λ = (n/c) e^a is the training batch size for images, also in prediction, so that no decision
    depends on the pictures beside it as it does in that code.

    Published settings beside the defaults, by data set: ν = 9 ImageNet; 8 Caltech101, Flowers, Food101, DTD;
    7 OxfordPets, EuroSAT, UCF101; 6 StanfordCars, SUN397; 4 FGVCAircraft. m = 0.9 Flowers; 0.5 Aircraft; 0.4 EuroSAT;
    0.2 Cars, DTD; 0.1 the others. ``global_prompts`` = 4 Flowers, Aircraft, EuroSAT. ``augmentation``
    ``"random_resized_crop_flip"`` Aircraft, ``"randaugment"`` Caltech101, DTD, EuroSAT. ImageNet: batch 4, 10 epochs.
    Across data sets (from ImageNet): ν = 7, batch 4, 5 epochs, learning rate 0.001, ``text_map="shared"``,
    ``frozen_terms=True``.

    Without a file of structures the sentences are the class names and attention is not steered; without descriptions
    the instance prompts come from the templates. Either is said in a warning and in ``diagnosis_``. Prediction needs
    neither file. At CLIP ViT-B/16 295,971 numbers are learned, 24 fewer without structures.

    Parameters
    ----------
    preset : the equations of the paper, or what the published code does.
    structures : a JSON file of graphs a class in HPT's layout, for topological attention.
    visual_prompts : N_v, prompts at every layer of the vision tower.
    global_prompts : N_g, prompts at every layer of the text tower that all classes share.
    instance_prompts : N_i, prompts from the first so many sentences of each class; fewer where no class has as many.
    sma : the modalities that are aligned.
    cma : ``"pairwise"`` as published, ``"sets"``, or ``"none"`` for the cosine alone.
    text_map : one map a class in SMA, or one ``"shared"`` by all, a ridge regression by Cholesky's method.
    aligned_weight : m of the aligned features; None for what the preset has, 0.1 in ``"official_code"``.
    loss_weight : ν.
    frozen_terms : average the logits with those of prompted against frozen features.
    epochs : passes over the images, the first of them a warm-up.
    learning_rate : of SGD with momentum 0.9 and weight decay 5e-4, along a cosine.
    augmentation : of the view that the prompted and of the one that the frozen tower sees; one name is drawn twice.
        The paper's text is ``["center", "random_resized_crop"]``, its code the default.

    Attributes
    ----------
    tensors_ : the parameters, and the ``text_features`` (K, d) that prediction uses.
    diagnosis_ : the ``knowledge`` used and, with structures, how much of them; λ, ρ, μ, α, ω and β; over fitted images
        ``cma_spread``, the mean standard deviation of d_CMA over the classes (0: a constant), and the share of
        decisions ``changed_by_sma`` and, after that, ``changed_by_cma``.

    References
    ----------
    Lu et al., Fine-tuning via linked domains: a closed-form dual alignment mechanism (DAM), equations 1 to 13.
    Wang et al., Learning hierarchical prompt with structured linguistic knowledge (HPT), AAAI 2024.
    """

    title = "DAM (dual alignment)"
    paper = (
        "Lu et al., Fine-tuning via linked domains: a closed-form dual alignment mechanism for transferring "
        "vision-language models"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "no same-modal alignment": {"sma": "none"},
        "no cross-modal alignment": {"cma": "none"},
        "cross-modal alignment of sets": {"cma": "sets"},
    }

    preset: Annotated[Literal["paper", "official_code"], OFFICIAL] = "paper"
    structures: str | None = None
    visual_prompts: Count = 2
    global_prompts: Count = 2
    instance_prompts: Count = 5
    sma: Modalities = "both"
    cma: Literal["pairwise", "sets", "none"] = "pairwise"
    text_map: TextMap = "own"
    aligned_weight: Annotated[NonNegative | None, Formerly("mixing")] = None
    loss_weight: NonNegative = 8.0
    frozen_terms: bool = False
    epochs: Count = 15
    batch_size: Count = 8
    learning_rate: NonNegative = 0.0025
    augmentation: Augmentations = "random_resized_crop"

    def for_classes(self, text: ClassText, encoder: ClipEncoder) -> Self:
        """The same prompts for other classes, which are encoded anew; ``structures`` must have graphs of them too."""
        check_is_fitted(self)
        instances = len(self.tensors_["text.first.layers.0"]) - self.global_prompts
        learner = self._prompted(Towers.open(encoder, text), instances, None)
        learner.to(encoder.device).restore(self.tensors_)
        other = copy(self)
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
        """A learner with both sides, and as many instance prompts a class."""
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
        }

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
    """Whether the sentences of the classes differ in the names of the classes alone."""
    places = template_places(towers.class_names, towers.sentences)
    return len(places) == max(map(len, towers.sentences))
