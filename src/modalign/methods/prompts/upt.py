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
    r"""Unified prompt tuning: one sequence, mixed by one small transformer block, becomes the prompts of both towers.

    .. math::
        U' = SA(U) + LN(U), \qquad \hat U = FFN(LN(U')) + LN(U'), \qquad [\hat U_t; \hat U_v] = \hat U

    and cosines as in CoOp. A saved model keeps the prompts that come out, not the block. Layers, width and start of the
    block are choices made here; the schedule is that of CoOp.

    Published (ViT-B/16, 16 shots, from ALIGN's Tables 3 and D.1): Caltech101 95.95, DTD 70.62, EuroSAT 90.77;
    ImageNet 72.63.

    Parameters
    ----------
    n_ctx : tokens a side.
    depth : layers with prompts of their own, at most those of the shallower tower.
    width : of the block.
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
