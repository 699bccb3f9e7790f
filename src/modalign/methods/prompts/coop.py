"""CoOp: the words around the class names are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Generator

from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import PromptLearner, PromptMethod, textual
from modalign.methods.contract.tower import Towers


@dataclass(kw_only=True, eq=False, repr=False)
class CoOp(PromptMethod[PromptLearner]):
    r"""Context optimization: the words around the class name are learned, everything else stays.

    .. math:: t_k = [v_1 \dots v_m\, \mathrm{class}_k\, .], \qquad p(y = k) \propto \exp(\cos(f(x), g(t_k)) / \tau)

    with v of the text tower's width, the same for all classes or each class its own, by cross-entropy. Image features
    do not change. Cost of a step: one pass of the vision tower without gradient and one of the text tower over the K
    class names behind one shared start.

    Published (ViT-B/16, 16 shots, from ALIGN's Tables 1 and D.1): Caltech101 94.8, DTD 69.5, EuroSAT 84.1; base to new
    82.66 / 63.22 / 71.65, below CLIP on new classes. 8,192 trainable numbers at width 512.

    Parameters
    ----------
    n_ctx : m, learnable tokens.
    words : begin with these instead of at random, as many tokens as they have; ``n_ctx`` then has no say.
    class_specific_context : a context for every class.
    """

    title = "CoOp"
    paper = "Zhou et al., Learning to prompt for vision-language models, IJCV 2022, arXiv:2109.01134"

    n_ctx: Annotated[Count, Formerly("length")] = 16
    words: str | None = None
    class_specific_context: Annotated[bool, Formerly("class_specific")] = False

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        words = None if self.words is None else towers.text.words(self.words).cpu()
        length = self.n_ctx if words is None else len(words)
        classes = len(towers) if self.class_specific_context else None
        return PromptLearner(towers, textual(towers, length, generator, classes=classes, words=words), "{}.", length)

    def _class_axes(self) -> dict[str, int]:
        return {"text.00": 1} if self.class_specific_context else {}
