"""MaPLe: prompts at several layers of both towers, with visual prompts projected from textual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Generator

from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count, NonNegative
from modalign.methods.contract.prompting import (
    PromptLearner,
    PromptMethod,
    fitting_depth,
    initial_words,
    projected_prompts,
)
from modalign.methods.contract.tower import Towers
from modalign.tune.prompts import IndependentPrompts, Prompts


@dataclass(kw_only=True, eq=False, repr=False)
class MaPLe(PromptMethod[PromptLearner]):
    r"""Multi-modal prompt learning: textual prompts at several layers, visual ones as linear images of them.

    .. math:: \tilde P_i = F_i(P_i), \qquad p(y = k) \propto \exp(\cos(f(x; \tilde P), g(t_k; P)) / \tau)

    for the layers i < depth. The first textual prompts start as "a photo" before "of a {class}.". A saved model holds
    the prompts of both towers, not the maps F.

    Parameters
    ----------
    n_ctx : int, default=2
        Tokens per tower and layer. With more than four, all start at random.
    depth : int, default=9
        Layers with prompts of their own, at most those of the tower with fewer layers.
    coupled : bool, default=True
        If False, visual prompts are independent parameters.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.MaPLe(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "MaPLe"
    paper = "Khattak et al., MaPLe: multi-modal prompt learning, CVPR 2023, arXiv:2210.03117"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"sides not coupled": {"coupled": False}}

    n_ctx: Annotated[Count, Formerly("length")] = 2
    depth: Count = 9
    coupled: bool = True
    epochs: Count = 5
    batch_size: Count = 4
    learning_rate: NonNegative = 0.0035

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        depth = fitting_depth(self.depth, towers)
        words, sentence = initial_words(towers.text, self.n_ctx)
        text = Prompts(self.n_ctx, towers.text.width, depth=depth, words=words, generator=generator)
        if self.coupled:
            return PromptLearner(towers, projected_prompts(text, towers, generator), sentence, self.n_ctx)
        vision = Prompts(self.n_ctx, towers.vision.width, depth=depth, generator=generator)
        return PromptLearner(towers, IndependentPrompts(text, vision), sentence, self.n_ctx)
