r"""WiSE-FT: the average of the zero-shot classifier and a linear classifier that was trained from it.

With unit images :math:`\hat x` and unit class texts W₀, the rows of a linear classifier on frozen features are trained
by AdamW,

.. math:: W_1 = \arg\min_W \operatorname{mean}_i \mathrm{CE}\bigl(100\, W \hat x_i, y_i\bigr) \text{ from } W_0,
          \qquad W = (1 - \alpha)\, W_0 + \alpha\, W_1

and the averaged weights W are used for prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from modalign.methods.baselines.cross_modal_probe import CrossModalProbe
from modalign.methods.contract.parameters import Fraction


@dataclass(kw_only=True, eq=False, repr=False)
class WiSEFT(CrossModalProbe):
    r"""Average of the weights of the zero-shot classifier and of a fine-tuned linear classifier.

    The tuned weights are those of the linear classifier on frozen image features, C · d numbers that start as the class
    texts: the paper's fine-tuning of the classifier only, and the form that Lin et al. and CMM compare with. The
    encoders do not change. Equations: :mod:`modalign.methods.baselines.wise_ft`. Without text, class means are the
    start.

    Parameters
    ----------
    probe_weight : float or "auto", default=0.5
        α: 0 is zero-shot, 1 the trained classifier; ``"auto"`` selects it on held-out images.
    cross_modal : bool, default=False
        Whether prompts are training samples like the images: the cross-modal WiSE-FT of Lin et al.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> ma.WiSEFT(steps=100, random_state=0).fit(X, y, text=T).predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "WiSE-FT"
    paper = "Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv:2109.01903"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "zero-shot": {"probe_weight": 0.0},
        "trained weights alone": {"probe_weight": 1.0},
    }

    probe_weight: Fraction | Literal["auto"] = 0.5
    cross_modal: bool = False
