"""Encoder of images as a scikit-learn transformer."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, argument
from modalign.data.items import load_items
from modalign.data.names import quoted

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder


class ImageEmbedder(TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from images to the unit vectors of an encoder.

    Vectors are cached in the store of the encoder, so that cross-validation and grid search embed each image once.
    ``fit`` only loads the encoder.

    Parameters
    ----------
    encoder : str, Encoder or JoinedEncoder, default="tiny"
        See :func:`~modalign.load_encoder`. If estimators are cloned or sent to other processes, as in a grid search,
        pass a name: an encoder object is copied with its weights.
    view : {"center", "mirror"}, default="center"
        See :meth:`Encoder.embed_images <modalign.encoders.base.Encoder.embed_images>`.
    batch_size : int or None, default=None
        Images per forward pass. Default: depends on the device and the size of the network.

    Attributes
    ----------
    encoder_ : Encoder or JoinedEncoder
        The loaded encoder.
    n_features_out_ : int
        d.

    Raises
    ------
    InputError
        An image cannot be decoded, since a transformer has to give a row for each.

    Examples
    --------
    >>> import modalign as ma
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(40))
    >>> pictures = [digits.open(i) for i in range(40)]
    >>> pipeline = make_pipeline(ma.ImageEmbedder(), LogisticRegression(max_iter=1000)).fit(pictures, digits.labels)
    >>> pipeline.predict(pictures[:2]).tolist()
    [0, 1]
    """

    @checked_arguments
    def __init__(
        self, encoder: str | Encoder | JoinedEncoder = "tiny", *, view: str = "center", batch_size: int | None = None
    ) -> None:
        self.encoder = encoder
        self.view = view
        self.batch_size = batch_size

    @checked_arguments
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the encoder; the images are ignored.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            Paths, Pillow images, arrays or bytes.
        y : object, default=None
            Ignored.
        """
        _images(X)
        self.encoder_ = _load(self.encoder)
        self.n_features_out_ = self.encoder_.spec.dim
        return self

    def transform(self, X: Any) -> np.ndarray:
        """(n, d) unit float32 vectors, a row for each image in the order given.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            Paths, Pillow images, arrays or bytes.
        """
        check_is_fitted(self)
        items = load_items(_images(X))
        found = self.encoder_.embed_images(items, view=self.view, batch_size=self.batch_size)
        if found.quarantined:
            entries = found.quarantined
            listed = quoted([entry.id for entry in entries], 3, details=[entry.reason for entry in entries])
            raise InputError(f"Expected images that can be decoded, got {listed}; leave them out.")
        place = {name: row for row, name in enumerate(found.ids)}
        return np.asarray(found.vectors)[[place[name] for name in items.given]]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """(d,) names of the columns: ``imageembedder0``, … ``input_features`` is ignored."""
        check_is_fitted(self)
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self.n_features_out_)], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is loaded again by its name."""
        state = dict(super().__getstate__())
        if isinstance(self.encoder, str):
            state.pop("encoder_", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "n_features_out_" in state and "encoder_" not in state:
            self.encoder_ = _load(self.encoder)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.input_tags.string = True
        tags.requires_fit, tags.no_validation = True, True
        return tags


def _images(X: Any) -> list[Any]:
    """The images of a list, an array or a column."""
    if isinstance(X, (str, bytes)) or not hasattr(X, "__len__"):
        raise InputError(f"Expected a list of images, got {type(X).__name__}; give one path in a list.")
    if getattr(X, "ndim", 1) == 2 or hasattr(X, "columns"):
        array = np.asarray(X, dtype=object)
        if array.ndim != 2 or array.shape[1] != 1:
            raise InputError(f"Expected one column of images, got an array of shape {array.shape}.")
        return array[:, 0].tolist()
    images = list(X)
    if not images:
        raise InputError("Expected at least one image, got none.")
    return images


def _load(encoder: str | Encoder | JoinedEncoder) -> Encoder | JoinedEncoder:
    if not isinstance(encoder, str) and not hasattr(encoder, "embed_images"):
        raise InputError(f"Expected {argument('encoder')} as a name or an encoder, got {encoder!r:.60}.")
    return _by_name(encoder) if isinstance(encoder, str) else encoder


@lru_cache(maxsize=2)
def _by_name(name: str) -> Encoder | JoinedEncoder:
    from modalign.encoders import load_encoder

    return load_encoder(name)
