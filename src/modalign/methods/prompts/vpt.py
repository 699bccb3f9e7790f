"""VPT: learned tokens appended to the patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Generator

from modalign.core.renaming import Formerly
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.prompting import PromptLearner, PromptMethod
from modalign.methods.contract.tower import Towers
from modalign.tune.prompts import IndependentPrompts, Prompts


@dataclass(kw_only=True, eq=False, repr=False)
class VPT(PromptMethod[PromptLearner]):
    r"""Visual prompt tuning: trained tokens in addition to the patches; class texts are frozen.

    .. math::
        \text{deep:} \quad & [x_i, \_, E_i] = L_i([x_{i-1}, P_{i-1}, E_{i-1}]) \\
        \text{shallow:} \quad & [x_1, Z_1, E_1] = L_1([x_0, P, E_0]), \quad
            [x_i, Z_i, E_i] = L_i([x_{i-1}, Z_{i-1}, E_{i-1}])

    and :math:`p(y = k) \propto \exp(\cos(f(x; P), t_k) / \tau)` in place of the paper's linear head, as in comparisons
    on CLIP. The class texts are computed once. The training schedule is that of the other prompt methods; the paper
    trains supervised backbones.

    Parameters
    ----------
    n_ctx : int, default=4
        Prompts per layer.
    deep : bool, default=True
        Whether every layer has prompts, or only the first.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.VPT(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "VPT"
    paper = "Jia et al., Visual prompt tuning, ECCV 2022, arXiv:2203.12119"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"first layer only": {"deep": False}}

    n_ctx: Annotated[Count, Formerly("length")] = 4
    deep: bool = True

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        depth = towers.vision.depth if self.deep else 1
        vision = Prompts(self.n_ctx, towers.vision.width, depth=depth, generator=generator)
        return PromptLearner(towers, IndependentPrompts(vision=vision))
