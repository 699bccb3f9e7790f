r"""HPT: hierarchical prompts in both towers of CLIP, trained by the cross-entropy of the cosines.

Every class sentence has :math:`N_g + N_i` places for prompts:

* **Embedding level.** On entering layer 0 all of them are learnable, shared by the classes.
* **Global prompts.** On entering each later layer l, :math:`N_g` learnable prompts, shared by the classes.
* **Instance prompts.** There too, :math:`N_i` prompts :math:`p_{lj}` of each class its own, by one residual linear map
  A, b for all layers of the end-of-text state :math:`h_{lj}` that the frozen tower has on entering layer l for
  description j of the class.
* **Topological attention.** The sentence of a class is its name followed by the entities and attributes of a graph.
  :math:`M_{st}` counts the relations (between entities, between entity and attribute) that the tokens s and t take
  part in. :math:`B_l` is added to the attention scores of layer l; both γ are learnable, 0 at the start.

.. math::
    p_{lj} = h_{lj} + A h_{lj} + b, \qquad B_l = \gamma_l^{ee} M^{ee} + \gamma_l^{ea} M^{ea}

In the vision tower :math:`N_v` independent learnable prompts enter every layer. With widths w (text) and v (vision) and
depths :math:`L_t` and :math:`L_v` there are

.. math:: L_v N_v v + (L_t - 1) N_g w + (N_g + N_i) w + w^2 + w + 2 L_t

trainable numbers, 295,960 in CLIP ViT-B/16 with :math:`N_v = N_g = 2` and :math:`N_i = 5`. The logits are 100 cosines
of images and class texts. Training draws a graph of each class per step; prediction uses the mean over its graphs.
"""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Generator

from modalign.core.errors import argument, hyperparameter
from modalign.core.renaming import stacklevel_outside
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.parameters import Augmentations, Count, NonNegative
from modalign.methods.contract.prompting import PromptMethod, template_places
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.hierarchical_text import HierarchicalText
from modalign.methods.dam.hpt_learner import HPTLearner
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import Prompts
from modalign.tune.topology import read_topology

if TYPE_CHECKING:
    from modalign.core.features import ClassText
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class HPT(PromptMethod):
    r"""Hierarchical prompts: shared ones, ones from the descriptions of each class, and attention by its relations.

    The baseline of DAM: the prompts of :class:`~modalign.methods.dam.dam.DAM` without its alignment, as
    ``DAM(sma="none", cma="none")``. Equations: :mod:`modalign.methods.dam.hpt`. Cost of a step: a pass of the vision
    tower per image and one of the text tower per class, forward and backward.

    Parameters
    ----------
    structures : str or None, default=None
        JSON file with a graph per class in HPT's layout. If None, attention is not modified and a warning is issued.
    visual_prompts, global_prompts : int, default=2
        Prompts in every layer of the image tower; prompts in every layer of the text tower, for all classes.
    instance_prompts : int, default=5
        Prompts from the first descriptions of each class, or with a warning from the templates.
    epochs, batch_size : int, default=15 and 8
        Passes over the images, of which the first is a warmup; images per step.
    learning_rate : float, default=0.0025
        Of SGD with momentum 0.9 and weight decay 5e-4, along a cosine.
    augmentation : str or list of str, default="random_resized_crop"
        Image augmentation.

    Attributes
    ----------
    tensors_ : dict of str to Tensor
        Trained parameters, and the ``text_features`` (K, d) used in prediction.
    diagnosis_ : dict
        ``knowledge``, the files that were given; ``parameters`` with the encoder; ``seconds_per_epoch``.

    References
    ----------
    .. [1] Wang et al., "Learning hierarchical prompt with structured linguistic knowledge for vision-language models
       (HPT)", AAAI 2024, arXiv:2312.06323.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.HPT(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "HPT (hierarchical prompts)"
    paper = (
        "Wang et al., Learning hierarchical prompt with structured linguistic knowledge, AAAI 2024, arXiv:2312.06323"
    )

    structures: str | None = None
    visual_prompts: Count = 2
    global_prompts: Count = 2
    instance_prompts: Count = 5
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
        return super(HPT, other).for_classes(text, encoder)

    def _learner(self, towers: Towers, generator: Generator) -> HPTLearner:
        learner = self._prompted(towers, min(self.instance_prompts, max(map(len, towers.sentences))), generator)
        self._warn(towers)
        return learner

    def _prompted(self, towers: Towers, instances: int, generator: Generator | None) -> HPTLearner:
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
        return self._assembled(towers, visual, text)

    def _assembled(self, towers: Towers, visual: Prompts, text: HierarchicalText | None) -> HPTLearner:
        """Create the learner of these prompts; without text side for prediction."""
        return HPTLearner(towers, visual, text)

    def _served(self, towers: Towers) -> HPTLearner:
        return self._assembled(towers, self._visual(towers, None), None)

    def _diagnose(self, learner: HPTLearner, data: ImageBatches) -> dict[str, Any]:
        assert learner.text is not None
        return {
            "knowledge": self._knowledge(learner.towers),
            **learner.text.summary,
            "seconds_per_epoch": sum(learner.seconds) / max(1, len(learner.seconds)),
        }

    def _finish(self, items: Items, encoder: ClipEncoder) -> None:
        frozen = sum(parameter.numel() for parameter in encoder.model.parameters())
        self.diagnosis_["parameters"] = frozen + self.diagnosis_["trainable"]

    def _visual(self, towers: Towers, generator: Generator | None) -> Prompts:
        return Prompts(self.visual_prompts, towers.vision.width, depth=towers.vision.depth, generator=generator)

    def _knowledge(self, towers: Towers) -> str:
        described = "templates" if from_templates(towers) else "descriptions"
        return f"{described} and {'no structures' if self.structures is None else 'structures'}"

    def _warn(self, towers: Towers) -> None:
        missing = [
            (
                "descriptions that differ in more than the class name",
                "its instance prompts come from the templates",
                argument("descriptions"),
            ),
            ("structures", "its attention is not steered by relations", hyperparameter("structures")),
        ]
        applies = [from_templates(towers), self.structures is None]
        lacking = [entry for entry, missed in zip(missing, applies, strict=True) if missed]
        if lacking:
            names, consequences, advice = zip(*lacking, strict=True)
            warnings.warn(
                f"{type(self).__name__} was given no {' and no '.join(names)}: {', and '.join(consequences)}; "
                f"see {' and '.join(advice)}.",
                stacklevel=stacklevel_outside(),
            )


def from_templates(towers: Towers) -> bool:
    """Return whether the sentences of the classes differ in the class names, with their articles, only."""
    places = template_places(towers.class_names, towers.sentences, any_article=True)
    return len(places) == max(map(len, towers.sentences))
