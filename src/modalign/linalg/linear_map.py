"""Result of a fit of a linear map."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import real


@dataclass(frozen=True)
class LinearMap:
    """Linear map x ↦ x W + bias of rows, with residual, condition and rank of the fit.

    Attributes
    ----------
    weight : Tensor of shape (dx, dy)
        W.
    bias : Tensor of shape (dy,) or None
        Bias, or None.
    residual : float or None
        ‖X W + bias − Y‖_F / ‖Y‖_F on the data of the fit (0 if both are zero); None if the fit used products of the
        data only.
    condition : float
        Ratio of the largest to the smallest singular value that was inverted (ridge) or whose direction was kept
        (Procrustes); infinite if there is none.
    rank : int
        Number of directions that the data determine; the weight has minimal norm on all others.
    """

    weight: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    residual: float | None
    condition: float
    rank: int

    def apply(self, X: Real[Tensor, "n dx"]) -> Float[Tensor, "n dy"]:
        """Map (n, dx) rows to (n, dy); half precision is computed in float32."""
        X = real(X, "X", finite=False)
        if X.shape[-1] != len(self.weight):
            raise InputError(f"Expected rows of width {len(self.weight)}, got shape {tuple(X.shape)}.")
        mapped = X @ self.weight.to(X.dtype)
        return mapped if self.bias is None else mapped + self.bias.to(X.dtype)


def relative_residual(
    X: Float[Tensor, "n dx"],
    Y: Float[Tensor, "n dy"],
    weight: Float[Tensor, "dx dy"],
    bias: Float[Tensor, " dy"] | None,
) -> float:
    """‖X W + bias − Y‖_F / ‖Y‖_F."""
    rest = X @ weight - Y if bias is None else X @ weight + bias - Y
    norm, size = float(rest.norm()), float(Y.norm())
    return norm / size if size > 0 else (0.0 if norm == 0 else float("inf"))
