r"""DAM's dual alignment on given features: same-modal by a rank-one ridge, cross-modal by ridge residuals.

See Lu et al., Fine-tuning via linked domains: a closed-form dual alignment mechanism (DAM), equations 1 to 11. The c ×
c matrices of the paper are not formed, because each ridge problem has rank one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from modalign.core.errors import InputError, require_choice
from modalign.linalg.inputs import float_tensor
from modalign.linalg.residuals import pairwise_residuals, set_residuals
from modalign.linalg.similarity import unit
from modalign.methods.dam.dam_same_modal import SameModal, ridge_strength

Modalities = Literal["both", "image", "text", "none"]
TextMap = Literal["own", "shared"]
CrossModal = Literal["pairwise", "sets", "none"]
Directions = Literal["both", "image-to-text", "text-to-image"]
Maps = Literal["closed-form", "learned", "sma", "cma"]
_ALPHA = {"both": 0.5, "image-to-text": 1.0, "text-to-image": 0.0}  # α of equation 10, trained for both alone

OFFICIAL_WEIGHT = 0.1  # of the aligned features in the published code


@dataclass(frozen=True)
class DualAlignment:
    """Result of the alignment for B images and N classes.

    Attributes
    ----------
    logits : Tensor of shape (B, N)
        :math:`100\\,(\\beta \\cos + (1 - \\beta)\\, d_{CMA})`, equation 11.
    loss : Tensor
        L_SMA, equation 6, mean over images plus mean over texts.
    images, texts : Tensor of shape (B, c)
        And (N, c) aligned features.
    cosine, cross_modal : Tensor of shape (B, N)
        The two terms of equation 11; the second is None if it is switched off.
    """

    logits: Tensor
    loss: Tensor
    images: Tensor = field(repr=False)
    texts: Tensor = field(repr=False)
    cosine: Tensor = field(repr=False)
    cross_modal: Tensor | None = field(repr=False)


class DAMAlignment(nn.Module):
    r"""Same-modal alignment, cross-modal alignment and score of DAM, with its eleven learnable scalars.

    ========================  =======  ====================================================================
    parameter                 start    meaning
    ========================  =======  ====================================================================
    ``images.log_ridge``      0        λ = (n/c) exp(·) + 1e-6 of the images' same-modal ridge, n images
    ``images.rho``            0.5      ρ of the images, raw
    ``texts.log_ridge``       0        λ of the texts, n classes
    ``texts.rho``             0.5      ρ of the texts, raw
    ``cross_scales`` (4)      0        log ridge and log μ from image to text, then from text to image
    ``alpha``                 0.5      α of equation 10, raw
    ``omega``                 1        ω of equation 10, raw
    ``blend_logit``           0.5      β = σ(·) of equation 11, 0.62 at the start
    ========================  =======  ====================================================================

    **Pairs of unit vectors.** With ``official_code`` and ``cross_modal="pairwise"``, d_CMA is −log N
    for every class (see :class:`modalign.methods.dam.cma.CMA`), and only β has an effect, as a learnable temperature.
    Without normalization, as in the equations of the paper, d_CMA depends on the lengths of the aligned features only,
    that is, on the agreement of prompted and frozen features. ``"sets"`` regresses the vectors of one side on those of
    the other and compares images with texts.

    Parameters
    ----------
    official_code : bool, default=False
        As in the published code, features are normalized before the cross-modal residuals, and L_SMA is that of the
        features f + m · aligned.
    aligned_weight : float or None, default=None
        m; features are f + m · aligned. None is 0.1 with ``official_code``; otherwise it uses the aligned features
        only, as in the paper.
    same_modal : {"both", "image", "text", "none"}, default="both"
        Modalities that are aligned and included in L_SMA.
    text_map : {"own", "shared"}, default="own"
        ``"own"`` map per class, or one map ``"shared"`` by all classes, for transfer across data sets.
    cross_modal : {"pairwise", "sets", "none"}, default="pairwise"
        Form of the residuals in equation 10.
    directions : {"both", "image-to-text", "text-to-image"}, default="both"
        Maps whose residuals are used; with one, α is 1 or 0 and not trained.
    maps : {"closed-form", "learned", "sma", "cma"}, default="closed-form"
        Ridge maps, or trained matrices W (c, c) from the identity in both alignments or in one of them (Table IX): one
        for the images, one for the texts, and one from each modality to the other, for ``"pairwise"`` residuals.
    width : int or None, default=None
        c, for trained maps.
    image_rows : int or None, default=None
        n of the images in λ; None for the current batch.
    frozen_terms : bool, default=False
        Average the logits with those of prompted images and frozen texts and of frozen images and prompted texts, as in
        the published code for ImageNet and across data sets.
    logit_scale : float, default=100.0
        Inverse temperature, frozen.
    """

    def __init__(
        self,
        *,
        official_code: bool = False,
        aligned_weight: float | None = None,
        same_modal: Modalities = "both",
        text_map: TextMap = "own",
        cross_modal: CrossModal = "pairwise",
        directions: Directions = "both",
        maps: Maps = "closed-form",
        width: int | None = None,
        image_rows: int | None = None,
        frozen_terms: bool = False,
        logit_scale: float = 100.0,
    ) -> None:
        super().__init__()
        require_choice("same_modal", same_modal, get_args(Modalities))
        require_choice("text_map", text_map, get_args(TextMap))
        require_choice("cross_modal", cross_modal, get_args(CrossModal))
        require_choice("directions", directions, get_args(Directions))
        require_choice("maps", maps, get_args(Maps))
        learned_cross = maps in ("learned", "cma") and cross_modal != "none"
        if learned_cross and cross_modal != "pairwise":
            raise InputError(f"Expected residuals of pairs with trained cross-modal maps, got '{cross_modal}'.")
        self.official_code = official_code
        self.aligned_weight = OFFICIAL_WEIGHT if official_code and aligned_weight is None else aligned_weight
        self.same_modal, self.cross_modal = same_modal, cross_modal
        self.image_rows, self.frozen_terms, self.logit_scale = image_rows, frozen_terms, logit_scale
        same = width if maps in ("learned", "sma") else None
        active = {name: same_modal in ("both", name) for name in ("image", "text")}
        self.images = SameModal(rows=image_rows, learned=same, active=active["image"])
        self.texts = SameModal(shared=text_map == "shared", learned=same, active=active["text"])
        crossed = cross_modal != "none"
        self.cross_scales = nn.Parameter(torch.zeros(4), requires_grad=crossed)
        self.cross_maps = nn.Parameter(torch.eye(width).repeat(2, 1, 1)) if learned_cross and width else None
        self.alpha = nn.Parameter(torch.tensor(_ALPHA[directions]), requires_grad=crossed and directions == "both")
        self.omega = nn.Parameter(torch.tensor(1.0), requires_grad=crossed)
        self.blend_logit = nn.Parameter(torch.tensor(0.5), requires_grad=crossed)

    @property
    def blend(self) -> Tensor:
        """β of equation 11."""
        return self.blend_logit.sigmoid()

    def align_images(self, frozen: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:
        """Return image features (B, c) for the score, and the image term of L_SMA."""
        return self._align(self.images, self.same_modal in ("both", "image"), frozen, prompted)

    def align_texts(self, frozen: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:
        """Return text features (N, c) for the score, which do not depend on the images, and the text term of L_SMA."""
        return self._align(self.texts, self.same_modal in ("both", "text"), frozen, prompted)

    def score(
        self, images: Tensor, texts: Tensor, image_set: Tensor | None = None, text_set: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""Equations 10 and 11 for aligned features.

        Parameters
        ----------
        images : Tensor of shape (B, c)
            Of :meth:`align_images`.
        texts : Tensor of shape (N, c)
            Of :meth:`align_texts`.
        image_set : Tensor of shape (B, V, c) or None, default=None
            Views or patches of each image, of any length, for the ``sets`` forms; default the image alone.
        text_set : Tensor of shape (N, R, c) or None, default=None
            Descriptions of each class; default the class text alone.

        Returns
        -------
        tuple of (Tensor, Tensor, Tensor or None)
            Logits, cosines and d_CMA, each (B, N); d_CMA is None where it is off.
        """
        cosine = unit(images) @ unit(texts).T
        if self.cross_modal == "none":
            return self.logit_scale * cosine, cosine, None
        of_text, of_image = self._residuals(images, texts, image_set, text_set)
        cross = torch.log_softmax(-self.omega * (self.alpha * of_text + (1 - self.alpha) * of_image), dim=1)
        return self.logit_scale * (self.blend * cosine + (1 - self.blend) * cross), cosine, cross

    def forward(
        self,
        frozen_images: Tensor,
        prompted_images: Tensor,
        frozen_texts: Tensor,
        prompted_texts: Tensor,
        *,
        image_set: Tensor | None = None,
        text_set: Tensor | None = None,
    ) -> DualAlignment:
        """Algorithm 1 and equation 6.

        Parameters
        ----------
        frozen_images, prompted_images : Tensor of shape (B, c)
            Of any length; scaled to length one before anything else.
        frozen_texts, prompted_texts : Tensor of shape (N, c)
            Class texts without and with the prompts.
        image_set, text_set : Tensor or None, default=None
            As in :meth:`score`.
        """
        with torch.autocast(prompted_images.device.type, enabled=False):
            images, image_loss = self.align_images(frozen_images, prompted_images)
            texts, text_loss = self.align_texts(frozen_texts, prompted_texts)  # to here lines 2 to 9
            logits, cosine, cross = self.score(images, texts, image_set, text_set)
            if self.frozen_terms:
                prompted = unit(prompted_images) @ unit(frozen_texts).T
                logits = (logits + self.logit_scale * (prompted + unit(frozen_images) @ unit(prompted_texts).T)) / 3
        return DualAlignment(logits, image_loss + text_loss, images, texts, cosine, cross)

    def _align(self, modality: SameModal, wanted: bool, frozen: Tensor, prompted: Tensor) -> tuple[Tensor, Tensor]:
        frozen, prompted = (
            unit(float_tensor(frozen, "frozen features")),
            unit(float_tensor(prompted, "prompted features")),
        )
        if frozen.ndim != 2 or frozen.shape != prompted.shape:
            raise InputError(
                "Expected frozen and prompted features of one shape (n, c), "
                f"got {tuple(frozen.shape)} and {tuple(prompted.shape)}."
            )
        if not wanted:
            return unit(prompted) if self.official_code else prompted, prompted.new_zeros(())
        aligned = modality(frozen, prompted)  # equations 1 to 5
        mixed = aligned if self.aligned_weight is None else prompted + self.aligned_weight * aligned
        if self.official_code:
            aligned = mixed = unit(mixed)
        return mixed, 1 - (frozen * unit(aligned)).sum() / frozen.shape[0]  # equation 6

    def _residuals(
        self, images: Tensor, texts: Tensor, image_set: Tensor | None, text_set: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ridges, factors = self.cross_scales[0::2], self.cross_scales[1::2].exp()
        mu = factors[0], factors[1]
        if self.cross_maps is not None:
            of_text = distances(mu[0] * images @ self.cross_maps[0], texts)
            return of_text, distances(mu[1] * texts @ self.cross_maps[1], images).T
        width = images.shape[1]
        if self.cross_modal == "pairwise":
            n = self.image_rows or len(images)
            lam = ridge_strength(ridges[0], n, width), ridge_strength(ridges[1], len(texts), width)
            return pairwise_residuals(images, texts, lam, mu)
        image_set = images[:, None] if image_set is None else unit(float_tensor(image_set, "image_set"))
        text_set = texts[:, None] if text_set is None else unit(float_tensor(text_set, "text_set"))
        lam = ridge_strength(ridges[0], image_set.shape[1], width), ridge_strength(ridges[1], text_set.shape[1], width)
        return set_residuals(image_set, text_set, lam, mu)


def distances(X: Tensor, Y: Tensor) -> Tensor:
    """(n, m) squared distances of the rows of (n, c) and (m, c)."""
    return X.square().sum(dim=1)[:, None] - 2 * X @ Y.T + Y.square().sum(dim=1)
