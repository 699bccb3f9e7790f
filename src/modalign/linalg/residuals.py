r"""Ridge residuals between images and texts, in closed form.

Two forms of the distances of DAM's equation 10, with ridges λ and factors μ for the two directions:

* **pairs**: one vector per side, the published form; depends on vector lengths only.
* **sets**: V image and R text vectors, each vector of one side regressed on the vectors of the other,
  :math:`t \approx I^\top a`. Depends on the cosine, also for V = R = 1.

All are differentiable in every argument.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from modalign.core.errors import InputError

Number = float | Tensor
CHUNK = 2**24  # numbers of one block of image-by-row products: 64 MB


def pairwise_residuals(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "C d"],
    lam: Number | tuple[Number, Number],
    mu: Number | tuple[Number, Number] = 1.0,
) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n C"]]:
    r"""Squared residuals of equation 10 for all pairs of images and texts of any length.

    Parameters
    ----------
    images : Tensor of shape (n, d)
        Image features.
    texts : Tensor of shape (C, d)
        Class texts.
    lam : float or Tensor or tuple of (float or Tensor, float or Tensor)
        λ > 0, or a pair (from image to text, from text to image).
    mu : float or Tensor or tuple of (float or Tensor, float or Tensor), default=1.0
        μ, or such a pair.

    Returns
    -------
    tuple of (Tensor, Tensor)
        :math:`\lVert t - \mu W_{IT} x \rVert^2` and :math:`\lVert x - \mu W_{TI} t \rVert^2`, both (n, C), as :math:`(1
        - \mu\kappa_x)^2 \lVert t \rVert^2` and :math:`(1 - \mu\kappa_t)^2 \lVert x \rVert^2` with :math:`\kappa_x =
        \lVert x \rVert^2 / (\lVert x \rVert^2 + \lambda)`. O((n + C) d + n C).
    """
    (lam_image, lam_text), (mu_image, mu_text) = _both(lam), _both(mu)
    of_x, of_t = images.square().sum(dim=1)[:, None], texts.square().sum(dim=1)[None]
    of_text = (1 - mu_image * of_x / (of_x + lam_image)).square() * of_t
    return of_text, (1 - mu_text * of_t / (of_t + lam_text)).square() * of_x


def set_residuals(
    images: Float[Tensor, "n V d"],
    texts: Float[Tensor, "C R d"],
    lam: Number | tuple[Number, Number],
    mu: Number | tuple[Number, Number] = 1.0,
) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n C"]]:
    r"""Mean squared residuals of the vectors of a class regressed on those of an image, and vice versa.

    .. math::
        r_{\mathrm{text}} = \operatorname{mean}_t \bigl(\lVert t \rVert^2 - \mu(2 - \mu)\,
        t^\top I^\top (I I^\top + \lambda)^{-1} I t \bigr)

    For μ = 1 the optimum over a of :math:`\lVert t - I^\top a \rVert^2 + \lambda \lVert a \rVert^2`; else its value at
    μ times the optimal a.

    Parameters
    ----------
    images : Tensor of shape (n, V, d)
        Padded with zero rows.
    texts : Tensor of shape (C, R, d)
        Padded with zero rows.
    lam, mu : float or Tensor or tuple of (float or Tensor, float or Tensor)
        As in :func:`pairwise_residuals`.

    Returns
    -------
    tuple of (Tensor, Tensor)
        Residuals of texts and of images, both (n, C). O(n (V² d + V³) + C (R² d + R³) + n C V R d).
    """
    if images.ndim != 3 or texts.ndim != 3 or images.shape[2] != texts.shape[2]:
        raise InputError(
            f"Expected sets (n, V, d) and (C, R, d) of one width, got {tuple(images.shape)} and {tuple(texts.shape)}."
        )
    (lam_image, lam_text), (mu_image, mu_text) = _both(lam), _both(mu)
    of_text = _rebuilt(texts, whitened(images, lam_image), mu_image)
    return of_text.T, _rebuilt(images, whitened(texts, lam_text), mu_text)


def class_residuals(
    X: Float[Tensor, "n d"], rows: Float[Tensor, "C R d"], white: Float[Tensor, "C R d"], lam: float
) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n C"]]:
    """Residuals of :func:`set_residuals` for one unit vector per image, with one λ, μ = 1 and whitened classes.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Unit images.
    rows : Tensor of shape (C, R, d)
        Unit rows, padded with zero rows.
    white : Tensor of shape (C, R, d)
        :func:`whitened` rows.
    lam : float
        λ > 0.

    Returns
    -------
    tuple of (Tensor, Tensor)
        Residuals of rows and of images, both (n, C). O(n C R d) in blocks of bounded memory.
    """
    counts = (rows != 0).any(dim=2).sum(dim=1)
    blocks = []
    for x in X.split(max(1, CHUNK // (rows.shape[0] * rows.shape[1]))):
        along = _squared_products(x[:, None], rows) / counts
        blocks.append((1 - along / (1 + lam), 1 - _squared_products(x[:, None], white)))
    of_rows, of_images = zip(*blocks, strict=True)
    return torch.cat(of_rows), torch.cat(of_images)


def whitened(rows: Float[Tensor, "... K d"], lam: Number) -> Float[Tensor, "... K d"]:
    r""":math:`L^{-1} S` for S = rows (..., K, d) and :math:`L L^\top = S S^\top + \lambda I`, in float64 inside.

    :math:`\lVert L^{-1} S x \rVert^2 = x^\top S^\top (S S^\top + \lambda I)^{-1} S x`. Zero rows stay zero.
    O(K² d + K³).
    """
    wide = rows.double()
    factor = torch.linalg.cholesky(_regular(wide @ wide.mT, lam))
    return torch.linalg.solve_triangular(factor, wide, upper=False).to(rows.dtype).contiguous()


def _rebuilt(rows: Tensor, white: Tensor, mu: Number) -> Tensor:
    """Mean residual of the nonzero rows (p, R, d) after regression on the whitened sets (q, V, d), (p, q)."""
    counts = (rows.detach() != 0).any(dim=2).sum(dim=1).clamp_min(1)
    sizes = rows.square().sum(dim=(1, 2))
    return (sizes[:, None] - mu * (2 - mu) * _squared_products(rows, white)) / counts[:, None]


def _squared_products(left: Tensor, right: Tensor) -> Tensor:
    """(p, q) sums of the squared inner products of the rows of sets (p, R, d) and (q, V, d)."""
    (p, R, d), (q, V, _) = left.shape, right.shape
    return (left.reshape(p * R, d) @ right.reshape(q * V, d).T).view(p, R, q, V).square().sum(dim=(1, 3))


def _regular(gram: Tensor, lam: Number) -> Tensor:
    return gram + lam * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _both(value: Number | tuple[Number, Number]) -> tuple[Number, Number]:
    return value if isinstance(value, tuple) else (value, value)
