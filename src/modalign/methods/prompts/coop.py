"""CoOp: learned context tokens before the class names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Generator

from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import Loss, PromptLearner, PromptMethod, text_prompts
from modalign.methods.contract.tower import Towers
from modalign.tune.prompts import IndependentPrompts


@dataclass(kw_only=True, eq=False, repr=False)
class CoOp(PromptMethod[PromptLearner]):
    r"""Context optimization: trains the prompt tokens around the class name; both towers are frozen.

    .. math:: t_k = [v_1 \dots v_m\, \mathrm{class}_k\, .], \qquad p(y = k) \propto \exp(\cos(f(x), g(t_k)) / \tau)

    trained by cross-entropy. The context v is shared by all classes, or separate for each class. Image features do not
    change. Cost of a step: one pass of the vision tower without gradient and one of the text tower over K class names.

    Parameters
    ----------
    n_ctx : int, default=16
        m, trained tokens.
    words : str or None, default=None
        Initial words of the context, in place of random tokens; `n_ctx` is then ignored.
    class_specific_context : bool, default=False
        One context per class ("CSC" in the CoOp code).
    loss : {"cross-entropy", "logit-adjusted"}, default="cross-entropy"
        ``"logit-adjusted"`` adds the logarithms of the class shares to the training logits, for classes of unequal
        size (Menon et al. 2021, τ = 1).

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.CoOp(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "CoOp"
    paper = "Zhou et al., Learning to prompt for vision-language models, IJCV 2022, arXiv:2109.01134"

    n_ctx: Annotated[Count, Formerly("length")] = 16
    words: str | None = None
    class_specific_context: Annotated[bool, Formerly("class_specific")] = False
    loss: Loss = "cross-entropy"

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        prompts, length = self._context(towers, generator)
        return PromptLearner(towers, prompts, "{}.", length, self.loss)

    def _context(self, towers: Towers, generator: Generator) -> tuple[IndependentPrompts, int]:
        """Return the initial context and its length."""
        words = None if self.words is None else towers.text.words(self.words).cpu()
        length = self.n_ctx if words is None else len(words)
        classes = len(towers) if self.class_specific_context else None
        return text_prompts(towers, length, generator, classes=classes, words=words), length

    def _class_axes(self) -> dict[str, int]:
        return {"text.00": 1} if self.class_specific_context else {}
