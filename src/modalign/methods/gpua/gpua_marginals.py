"""Class prior of GPUA's plan and the strength of its constraint."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.divergence import divergence_from_uniform

EVEN = 0.03  # nats: estimated shares this near to uniform count as uniform; the classes act as 97 % of K equal ones
FLOOR = 1e-3  # of an equal share, added to every estimated one: no class is ruled out


@dataclass(frozen=True)
class Marginals:
    """Class shares and their source.

    Attributes
    ----------
    shares : Tensor
        c, positive with sum 1.
    kind : str
        "uniform", "given" or "estimated".
    numbers : dict of str to float
        Numbers for ``diagnosis_``.
    rho : float, default=inf
        KL penalty of the shares; infinite for a constraint.
    """

    shares: Tensor
    kind: str
    numbers: dict[str, float]
    rho: float = math.inf

    @classmethod
    def uniform(cls, K: int) -> Marginals:
        """Equal shares, as a constraint."""
        return cls(torch.full((K,), 1 / K), "uniform", {})

    @classmethod
    def given(cls, values: ArrayLike, K: int) -> Marginals:
        """Shares proportional to K positive numbers, as a constraint."""
        shares = torch.as_tensor(np.asarray(values, dtype=np.float64))
        if shares.shape != (K,) or not bool((shares > 0).all()) or not bool(torch.isfinite(shares).all()):
            raise InputError(
                f"Expected class_prior to be {K} positive numbers, one per class, got {np.array(values)}; "
                "leave out the text of a class that has no image."
            )
        return cls(shares / shares.sum(), "given", {"kl_given": float(divergence_from_uniform(shares))})

    def to(self, device: torch.device) -> Marginals:
        """The same with the shares on a device."""
        return replace(self, shares=self.shares.to(device))

    def report(self) -> dict[str, Any]:
        """For ``diagnosis_``."""
        return {"class_prior": self.kind, **self.numbers, "kl_class_prior": float(divergence_from_uniform(self.shares))}
