"""Base class of methods on vectors that also map them, as transformers of scikit-learn do."""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import Features
from modalign.methods.contract.estimators.estimator import complete_class, require_fitted
from modalign.methods.contract.vectors import Rows, VectorMethod

if TYPE_CHECKING:
    from sklearn.utils import Tags


class MappingMethod(VectorMethod):
    """Classifier that compares mapped image features with class prototypes, and transformer to the mapped features."""

    @abstractmethod
    def _mapped_vectors(self, X: Tensor) -> Tensor:
        """Return the unit vectors (n, d_t) of image vectors (n, d)."""

    @property
    @abstractmethod
    def _n_features_out(self) -> int:
        """d_t; the name is that of scikit-learn."""

    @overload
    def transform(self, X: Tensor) -> Tensor: ...
    @overload
    def transform(self, X: Rows | Features) -> np.ndarray: ...
    def transform(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """Map image features to the unit vectors (n, d_t) that predictions compare with :attr:`prototypes_`.

        After ``set_output`` of this object or of scikit-learn, in a data frame.
        """
        if "sklearn" not in sys.modules:  # then nobody can have asked for a data frame
            return self._transformed(X)
        return complete_class(type(self)).transform(self, X)

    def fit_transform(self, X: Any, y: Any = None, **inputs: Any) -> Any:
        """:meth:`fit`, then :meth:`transform` of the same images."""
        return self.fit(X, y, **inputs).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """(d_t,) names of the columns, such as ``cmm0``; ``input_features`` is ignored."""
        require_fitted(self)
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self._n_features_out)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Those of a classifier that is a transformer too."""
        from sklearn.utils import TransformerTags

        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=["float32"])
        return tags

    def _transformed(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        require_fitted(self)
        with torch.no_grad():
            mapped = self._mapped_vectors(self._read_vectors(X, reset=False))
        return mapped if isinstance(X, Tensor) else mapped.cpu().numpy()
