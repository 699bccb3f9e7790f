"""KgCoOp: CoOp whose class texts are kept near those of the frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Count, NonNegative
from modalign.methods.contract.prompting import START, Loss, PromptLearner
from modalign.methods.contract.tower import Towers
from modalign.methods.prompts.coop import CoOp
from modalign.tune.batches import Batch


@dataclass(kw_only=True, eq=False, repr=False)
class KgCoOp(CoOp):
    r"""Knowledge-guided context optimization: CoOp with a penalty on the distance to the texts of the frozen encoder.

    .. math::
        L = L_{\mathrm{CE}} + \lambda\, \frac1K \sum_k \lVert w_k - w_k^{\mathrm{clip}} \rVert^2

    with w the unit text features under the trained context, and w^clip those of the sentences given, the mean direction
    of a class that has several. Cost as CoOp.

    Parameters
    ----------
    knowledge_weight : float, default=8.0
        λ; 0 is CoOp.
    words : str or None, default="a photo of a"
        Initial words of the context; None for `n_ctx` random tokens.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.KgCoOp(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "KgCoOp"
    paper = (
        "Yao et al., Visual-language prompt tuning with knowledge-guided context optimization, CVPR 2023, "
        "arXiv:2303.13283"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no distance to the frozen texts": {"knowledge_weight": 0.0}}

    words: str | None = START
    knowledge_weight: NonNegative = 8.0
    epochs: Count = 100

    def _learner(self, towers: Towers, generator: Generator) -> GuidedLearner:
        prompts, length = self._context(towers, generator)
        return GuidedLearner(towers, prompts, length, self.loss, self.knowledge_weight)


class GuidedLearner(PromptLearner):
    """Context of CoOp and the distance of its class texts to the frozen ones.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    prompts : object
        Context of the text tower.
    length : int
        Tokens of the context.
    loss : {"cross-entropy", "logit-adjusted"}
        As for :class:`~modalign.methods.contract.prompting.PromptLearner`.
    weight : float
        λ.
    """

    def __init__(self, towers: Towers, prompts: nn.Module, length: int, loss: Loss, weight: float) -> None:
        super().__init__(towers, prompts, "{}.", length, loss)
        self.weight = weight

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return L and its two terms."""
        texts = self.classes()
        cross_entropy = self.cross_entropy(self.logits_of(self.batch_output(batch), texts), batch.labels)
        distance = (unit(texts[0].float()) - self.towers.prototypes()).square().sum(dim=1).mean()
        return {"loss": cross_entropy + self.weight * distance, "cross_entropy": cross_entropy, "distance": distance}
