"""UPT: the prompts of both towers from one small transformer block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Generator

from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import PromptLearner, PromptMethod, fitting_depth
from modalign.methods.contract.tower import Towers
from modalign.tune.prompts import JointPrompts


@dataclass(kw_only=True, eq=False, repr=False)
class UPT(PromptMethod[PromptLearner]):
    r"""Unified prompt tuning: a small transformer block maps one sequence to the prompts of both towers.

    .. math::
        U' = SA(U) + LN(U), \qquad \hat U = FFN(LN(U')) + LN(U'), \qquad [\hat U_t; \hat U_v] = \hat U

    and cosines as in CoOp. A saved model holds the resulting prompts, not the block. Layers, width and initial values
    of the block are choices of this library; the schedule is that of CoOp.

    Parameters
    ----------
    n_ctx : int, default=4
        Tokens per tower.
    depth : int, default=1
        Layers with prompts of their own, at most those of the tower with fewer layers.
    width : int, default=128
        Width of the block.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.UPT(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "UPT"
    paper = "Zang et al., Unified vision and language prompt learning, 2022, arXiv:2210.07225"

    n_ctx: Annotated[Count, Formerly("length")] = 4
    depth: Count = 1
    width: Count = 128

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        widths = towers.text.width, towers.vision.width
        depth = fitting_depth(self.depth, towers)
        prompts = JointPrompts((self.n_ctx, self.n_ctx), *widths, width=self.width, depth=depth, generator=generator)
        return PromptLearner(towers, prompts, "{}.", self.n_ctx)
