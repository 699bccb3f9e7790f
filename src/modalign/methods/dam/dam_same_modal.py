"""Same-modal alignment of DAM: prompted features are mapped toward the frozen ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modalign.linalg.ridge import ridge_weights


def same_modal(frozen: Tensor, prompted: Tensor, lam: Tensor | float, rho: Tensor | float) -> Tensor:
    r"""Same-modal alignment (equations 1 to 5) with one map per row, in O(c) each.

    .. math::
        \hat f = \bigl(\rho I + (1 - \rho)\, f_0 f^\top (f f^\top + \lambda I)^{-1}\bigr) f
        = (1 - \rho)\, \kappa f_0 + \rho f, \qquad \kappa = \frac{\lVert f \rVert^2}{\lVert f \rVert^2 + \lambda}

    Parameters
    ----------
    frozen : Tensor of shape (n, c)
        Features f₀ of the frozen encoder, the targets.
    prompted : Tensor of shape (n, c)
        Features f of the prompted encoder.
    lam : Tensor or float
        λ > 0.
    rho : Tensor or float
        ρ, share of the prompted feature.

    Returns
    -------
    Tensor of shape (n, c)
        Differentiable in all four.
    """
    squares = prompted.square().sum(dim=1, keepdim=True)
    return (1 - rho) * (squares / (squares + lam)) * frozen + rho * prompted


def shared_map(frozen: Tensor, prompted: Tensor, lam: Tensor | float, rho: Tensor | float) -> Tensor:
    r"""Same-modal alignment with one map for all rows, as DAM has it for texts across data sets.

    .. math::
        \hat F = \rho F + (1 - \rho)\, F W, \qquad W = (F^\top F + \lambda I)^{-1} F^\top F_0

    Parameters
    ----------
    frozen, prompted, lam, rho : Tensor
        As in :func:`same_modal`.

    Returns
    -------
    Tensor of shape (n, c)
        Differentiable; one Cholesky factorization of the smaller of n and c, in float64.
    """
    return rho * prompted + (1 - rho) * (prompted @ ridge_weights(prompted, frozen, lam))


class SameModal(nn.Module):
    r"""The two learnable scalars of one modality, λ = (n / c) · exp(``log_ridge``) + 1e-6 and ρ = ``rho``.

    Parameters
    ----------
    shared : bool, default=False
        One map for all rows in place of one per row.
    rows : int or None, default=None
        n in λ; None for the number of rows given, as the published code has it, so that λ of
        images changes with the size of the batch.
    learned : int or None, default=None
        Width c of one trained map W (c, c) in place of the closed form, which starts as the identity; λ is not used.
    active : bool, default=True
        Whether the scalars act and are trained.
    """

    def __init__(
        self, *, shared: bool = False, rows: int | None = None, learned: int | None = None, active: bool = True
    ) -> None:
        super().__init__()
        self.shared, self.rows = shared, rows
        self.log_ridge = nn.Parameter(torch.zeros(()), requires_grad=active and learned is None)
        self.rho = nn.Parameter(torch.tensor(0.5), requires_grad=active)
        self.map = nn.Parameter(torch.eye(learned)) if learned and active else None

    def ridge(self, features: Tensor) -> Tensor:
        """λ for features (n, c)."""
        return ridge_strength(self.log_ridge, self.rows or len(features), features.shape[1])

    def forward(self, frozen: Tensor, prompted: Tensor) -> Tensor:
        """Aligned features (n, c) of unit features."""
        if self.map is not None:
            return self.rho * prompted + (1 - self.rho) * (prompted @ self.map)
        align = shared_map if self.shared else same_modal
        return align(frozen, prompted, self.ridge(prompted), self.rho)


def ridge_strength(log: Tensor, rows: int, width: int) -> Tensor:
    """λ = (n / c) exp(·) + 1e-6."""
    return rows / width * log.exp() + 1e-6
