"""Alternatives to the pseudo-labels of FAIR: CLIP, CuPL, WCA, and one after CODER (FAIR, Table 7).

Each compares image features of the current tower with fixed text features and returns the
:class:`~modalign.methods.fair.fair_score.CropScores` from which FAIR's weight γ is computed. All scores are weighted
means of cosines, so ``mass`` is 1 and S = softmax(s ψ) are zero-shot probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from modalign.core.errors import InputError, require_choice
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import softmax_weights, top_k, unit
from modalign.methods.contract.prompting import START, template_places
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.fair_score import CropScores

SENTENCES = 512  # encoded at a time

Labeler = Literal["clip", "cupl", "wca", "coder"]


class PseudoLabeler(ABC):
    """Base class of pseudo-labelers.

    Parameters
    ----------
    sentences : Tensor of shape (K, T, d)
        Sentence vectors of the classes, padded with zero rows.
    plain : Tensor of shape (K, d)
        Vector of one short sentence with the name of each class, see :func:`plain_sentences`.

    Attributes
    ----------
    needs_crops : bool, default=False
        Whether ``crops`` is required.

    Raises
    ------
    InputError
        A class has no sentence, a number is not finite, or the shapes do not match.
    """

    needs_crops: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, sentences: Tensor, plain: Tensor, **options: Any) -> None:
        """See the class."""

    @abstractmethod
    def __call__(self, whole: Tensor, crops: Tensor | None = None, weights: Tensor | None = None) -> CropScores:
        """Compute ψ of B images.

        Parameters
        ----------
        whole : Tensor of shape (B, d)
            Features of the whole images, of any length.
        crops : Tensor of shape (B, N, d) or None, default=None
            Of their crops, where these are needed.
        weights : Tensor of shape (B, N) or None, default=None
            Weights of the crops, in place of those of a labeler that has some.

        Returns
        -------
        CropScores
            Scores (B, K), mass 1, and votes: the class predicted from each crop (or description) separately.
        """


class WholeImage(PseudoLabeler):
    """Pseudo-labeler with one vector per class, ``text`` (K, d), on whole images. Cost O(B K d)."""

    text: Tensor

    def __call__(self, whole: Tensor, crops: Tensor | None = None, weights: Tensor | None = None) -> CropScores:
        whole = unit(whole)
        scores = whole @ self.text.to(whole).T
        return CropScores(scores, torch.ones_like(scores[:, 0]), scores.argmax(dim=1, keepdim=True))


class CLIPLabeler(WholeImage):
    r"""ψ_y = cos(f, Z_y) with the plain sentence of each class (Radford et al. 2021; FAIR, equation 1)."""

    def __init__(self, sentences: Tensor, plain: Tensor) -> None:
        self.text = check_descriptions(sentences, plain)[1]


class CuPLLabeler(WholeImage):
    r"""ψ_y = 1/M_y Σ_j cos(f, Z_j^y) over all M_y sentences of each class (Pratt et al. 2023; FAIR, equation 5).

    FAIR-g of Table 7 is this on randomly cropped whole images.
    """

    def __init__(self, sentences: Tensor, plain: Tensor) -> None:
        sentences, _ = check_descriptions(sentences, plain)
        self.text = sentences.sum(dim=1) / present(sentences).sum(dim=1, keepdim=True)


class WCALabeler(PseudoLabeler):
    r"""Weighted mean over all crops and sentences (Li et al. 2024; FAIR, equations 8 to 10).

    .. math::
        w_i = \mathrm{softmax}_i(\cos(f, f_i) / \tau_w), \quad
        v_j = \mathrm{softmax}_j(\cos(y, t_j^y) / \tau_v), \quad
        \psi_y = \sum_{i=1}^N \sum_{j=1}^{M_y} w_i v_j \cos(f_i, t_j^y)

    where y is the plain sentence of the class. With ``keep``, the sum is over the crops of largest weight, and ``mass``
    is the sum of their weights. The votes are those of the crops. Cost O(K T d) once, O(B N K d) per call.

    Parameters
    ----------
    sentences, plain : Tensor
        See :class:`PseudoLabeler`.
    image_temperature : float
        τ_w; FAIR has none, which is τ_w = 1 and gives nearly uniform weights. See
        :class:`~modalign.methods.baselines.wca.WCA` for sharper ones.
    text_temperature : float, default=1.0
        τ_v.
    keep : int or None, default=None
        Crops in the sum; None for all.
    """

    needs_crops = True

    def __init__(
        self,
        sentences: Tensor,
        plain: Tensor,
        *,
        image_temperature: float = 1.0,
        text_temperature: float = 1.0,
        keep: int | None = None,
    ) -> None:
        sentences, plain = check_descriptions(sentences, plain)
        if not (image_temperature > 0 and text_temperature > 0):
            raise InputError(f"Expected temperatures above 0, got {image_temperature} and {text_temperature}.")
        self.image_temperature, self.keep = image_temperature, keep
        self.text = torch.einsum("kt,ktd->kd", softmax_weights(plain, sentences, text_temperature), sentences)

    def __call__(self, whole: Tensor, crops: Tensor | None = None, weights: Tensor | None = None) -> CropScores:
        if crops is None or crops.shape[1] == 0:
            raise InputError("Expected crops of the images, which WCA's score is made of; cut some, or choose 'cupl'.")
        weights = softmax_weights(whole, crops, self.image_temperature) if weights is None else weights
        cosines = unit(crops) @ self.text.to(crops).T
        if self.keep is not None:
            weights, chosen = top_k(weights, self.keep)
            cosines = cosines.gather(1, chosen[:, :, None].expand(-1, -1, cosines.shape[2]))
        return CropScores(torch.einsum("bn,bnk->bk", weights, cosines), weights.sum(dim=1), cosines.argmax(dim=2))


class CODERLikeLabeler(PseudoLabeler):
    r"""Image representation by cosines with all sentences, after CODER (Yi et al. 2024).

    An image becomes φ(x) = (cos(f, t)) over the sentences t of all classes, its neighbors. D_y are those that describe
    class y and N_y those that only name it: its plain sentence, and all of its sentences at ``named`` places.

    .. math::
        \psi_y = \frac{1}{|D_y| + 1} \Bigl( \sum_{t \in D_y} \varphi_t(x) + \max_{t \in N_y} \varphi_t(x) \Bigr)

    which is the first of the two stages in CODER's published code. In CODER, D_y are attributes of the class and of
    similar classes, and N_y are its name and synonyms, from a language model and WordNet. Here both are the sentences
    of the user; with one name per class, this is CuPL over names and descriptions. The second stage, which separates
    similar classes by sentences about their differences, is not implemented: it needs sentences for pairs of classes,
    and the published code applies it only to images whose true class is among the five best. Results are therefore not
    comparable with CODER.

    There are two votes, from names and from descriptions, or one without descriptions. Cost O(K T d) once, O(B K n d)
    per call with n naming sentences.

    Parameters
    ----------
    sentences, plain : Tensor
        See :class:`PseudoLabeler`.
    named : sequence of int, default=()
        Indices among the T sentences of names in a template, as
        returned by :func:`~modalign.methods.contract.prompting.template_places`.

    References
    ----------
    Yi, Ren, Zhan and Ye, Leveraging cross-modal neighbor representation for improved CLIP classification, CVPR 2024,
    arXiv:2404.17753.
    """

    def __init__(self, sentences: Tensor, plain: Tensor, *, named: Sequence[int] = ()) -> None:
        sentences, plain = check_descriptions(sentences, plain)
        T = sentences.shape[1]
        if not set(named) <= set(range(T)):
            raise InputError(f"Expected places of names among {T} sentences, 0…{T - 1}, got {list(named)}.")
        places = [place for place in range(T) if place not in set(named)]
        self.names = torch.cat([plain[:, None], sentences[:, list(named)]], dim=1)
        self.descriptions = sentences[:, places].sum(dim=1)
        self.counts = present(sentences[:, places]).sum(dim=1)

    def __call__(self, whole: Tensor, crops: Tensor | None = None, weights: Tensor | None = None) -> CropScores:
        whole = unit(whole)
        names, counts = self.names.to(whole), self.counts.to(whole)
        near = torch.einsum("bd,ksd->bks", whole, names).masked_fill(~present(names), -torch.inf).amax(dim=2)
        described = whole @ self.descriptions.to(whole).T
        views = [near, described / counts] if bool((counts > 0).all()) else [near]
        scores = (described + near) / (counts + 1)
        return CropScores(scores, torch.ones_like(scores[:, 0]), torch.stack(views, dim=1).argmax(dim=2))


LABELERS: dict[Labeler, type[PseudoLabeler]] = {
    "clip": CLIPLabeler,
    "cupl": CuPLLabeler,
    "wca": WCALabeler,
    "coder": CODERLikeLabeler,
}


def pseudo_labeler(name: Labeler, towers: Towers, **of_wca: Any) -> PseudoLabeler:
    """Create the pseudo-labeler of that name for the classes of ``towers``.

    Parameters
    ----------
    name : {"clip", "cupl", "wca", "coder"}
        Of :data:`LABELERS`.
    towers : Towers
        The classes and the text tower, which encodes plain sentences where the classes have none.
    **of_wca : object
        Options of :class:`WCALabeler`.
    """
    require_choice("labeler", name, LABELERS)
    options: dict[str, Any] = {}
    if name == "wca":
        options = of_wca
    elif name == "coder":
        options = {"named": template_places(towers.class_names, towers.sentences)}
    return LABELERS[name](towers.class_text, plain_sentences(towers), **options)


@torch.no_grad()
def plain_sentences(towers: Towers) -> Tensor:
    """(K, d) unit vectors of one sentence per class: its name in the first template that the classes share.

    Where they share none, as with descriptions, "a photo of a NAME." is encoded.
    """
    places = template_places(towers.class_names, towers.sentences)
    if places:
        return unit(towers.class_text[:, places[0]])
    sentences = [f"{START} {name.replace('_', ' ')}." for name in towers.class_names]
    return unit(towers.text(towers.text.tokenize(sentences, cut=True), chunk=SENTENCES).pooled[0])


def check_descriptions(sentences: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """Both as unit vectors, (K, T, d) and (K, d), or the errors of :class:`PseudoLabeler`."""
    if sentences.ndim != 3 or plain.shape != (sentences.shape[0], sentences.shape[2]):
        raise InputError(
            f"Expected sentences of shape (K, T, d) and one plain sentence per class, (K, d), got "
            f"{tuple(sentences.shape)} and {tuple(plain.shape)}."
        )
    text_prototypes(sentences)  # which raises for missing or non-finite values
    sentences = unit(sentences)
    return sentences, text_prototypes(plain).to(sentences)


def present(sentences: Tensor) -> Tensor:
    """(…, T) whether a sentence (…, T, d) is there."""
    return (sentences != 0).any(dim=-1)
