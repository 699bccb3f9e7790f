"""Validated input of a method on vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError, argument
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.core.labels import UNLABELED
from modalign.core.renaming import former_attributes
from modalign.linalg.inputs import single
from modalign.linalg.prototypes import class_means, text_prototypes
from modalign.methods.contract.class_names import Classes, names_of_rows, order_of_rows, read_labels
from modalign.methods.contract.estimators.estimator import Parametrized
from modalign.methods.contract.rows import read_parts, read_rows, read_text_vectors

if TYPE_CHECKING:
    from sklearn.utils import Tags


@former_attributes(labelled="labeled")
@dataclass(frozen=True)
class Problem:
    """Validated input of ``_fit``: float32 tensors on one device; vectors are not normalized.

    Methods use directions only, so the scale of the vectors has no effect.

    Attributes
    ----------
    X : Tensor of shape (n, d)
        Image vectors.
    y : Tensor of shape (n,)
        Class indices in 0…C−1, −1 = unlabeled.
    n_classes : int
        C.
    text : Tensor of shape (C, T, d) or None
        Class-text vectors, padded with zero rows; None without text.
    clip_features : Tensor of shape (n, a) or None
        Features of the same images in the space of the text, or None.
    validation : tuple of (Tensor, Tensor) or None
        Validation images (h, d) and labels (h,) for selecting hyper-parameters, or None.
    parts : Tensor of shape (n, N, d) or None, default=None
        Vectors of crops or patches of the same images, for methods that use them; else None.
    logit_scale : float or None, default=None
        Trained inverse temperature of the text encoder; None without text or if it is unknown.
    ids : tuple of str or None, default=None
        Ids of the images, equal for all views of an image; None if they have none.
    """

    X: Tensor
    y: Tensor
    n_classes: int
    text: Tensor | None
    clip_features: Tensor | None
    validation: tuple[Tensor, Tensor] | None
    parts: Tensor | None = None
    logit_scale: float | None = None
    ids: tuple[str, ...] | None = None

    def labeled(self) -> tuple[Tensor, Tensor]:
        """The rows of ``X`` that have a label, and their labels."""
        known = self.y != UNLABELED
        return single(self.X[known]), self.y[known]

    def prototypes(self) -> Tensor:
        """Return unit class prototypes (C, d): mean text directions, or class means without text."""
        if self.text is not None:
            return text_prototypes(self.text)
        return class_means(*self.labeled(), self.n_classes)


class ProblemReader(Parametrized):
    """Estimator that validates the arguments of ``fit`` and prediction; class attributes define what it accepts.

    Attributes
    ----------
    classes_, class_names_, n_features_in_, encoder_ : ndarray
        See :class:`~modalign.methods.contract.vectors.VectorMethod`.
    """

    needs_text: ClassVar[bool] = False  # refuses to fit without class text
    needs_labels: ClassVar[bool] = True  # with text given, still needs at least one labeled image
    needs_clip_features: ClassVar[bool] = False  # refuses to fit without the language-aligned view
    takes_clip_features: ClassVar[bool] = False  # text is in the space of these where given, else in that of X
    streams: ClassVar[bool] = False  # gets memory-mapped vectors in their own type, to read in blocks
    takes_parts: ClassVar[bool] = False  # uses ``Features.tokens``, crops or patches of every image

    classes_: np.ndarray
    class_names_: list[str] | None
    n_features_in_: int
    encoder_: EncoderSpec | None

    def __sklearn_tags__(self) -> Tags:
        """Those of a classifier."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags, tags.target_tags.required = "classifier", ClassifierTags(), True
        return tags

    @property
    def _classes(self) -> Classes:
        names = getattr(self, "class_names_", None)
        return Classes(self.classes_, None if names is None else tuple(names))

    def _read_problem(self, X: Any, y: Any, text: Any, clip_features: Any, validation: Any, classes: Any) -> Problem:
        if isinstance(X, Features) and y is None:
            y = X.labels
        vectors = self._read_vectors(X, reset=True)
        spec, width, name = self.encoder_, vectors.shape[1], "X"
        if clip_features is not None:
            clip_spec = clip_features.spec if isinstance(clip_features, Features) else None
            clip_features = self._read_clip_features(clip_features, X, vectors)
            if self.takes_clip_features or self.needs_clip_features:
                spec, width, name = clip_spec, clip_features.shape[1], "clip_features"
        elif self.needs_clip_features:
            raise InputError(
                f"{type(self).__name__} needs {argument('clip_features')}: the same images in the space of the text."
            )
        if text is None and self.needs_text:
            raise InputError(f"{type(self).__name__} needs {argument('text')}: (C, d) or (C, T, d) class-text vectors.")
        names = scale = None
        if text is not None:
            if isinstance(text, ClassText):
                text = text if classes is None else text.select(classes)
                classes = text.class_names
                if spec is not None:
                    spec.require(text.spec)
                spec = text.spec or spec
            scale = None if spec is None else spec.logit_scale
            text = read_text_vectors(
                text, width, name, anchored=not self.takes_clip_features or name == "clip_features"
            ).to(vectors.device)
            names = names_of_rows(classes, names_of(X), len(text))
        elif classes is not None:
            raise InputError(
                f"Expected {argument('classes')} together with {argument('text')}, whose rows it names, got no text."
            )
        y = None if y is None else read_labels(y, len(vectors))
        text = self._read_classes(y, names_of(X), text, names)
        codes = np.full(len(vectors), UNLABELED) if y is None else self._classes.codes(y, names_of(X))
        require_no_test(X, codes != UNLABELED)
        if self.needs_labels and not (codes != UNLABELED).any():
            raise InputError(f"{type(self).__name__} needs at least one labeled image, got none.")
        labels = torch.from_numpy(codes).to(vectors.device)
        given = None if validation is None else self._read_validation(validation, vectors.device)
        parts = self._read_parts(X, vectors)
        ids = X.ids if isinstance(X, Features) else None
        return Problem(vectors, labels, len(self.classes_), text, clip_features, given, parts, scale, ids)

    def _read_classes(
        self, y: np.ndarray | None, own: Sequence[str], text: Tensor | None, names: Sequence[str] | None
    ) -> Tensor | None:
        """Set ``classes_`` and ``class_names_``; return the text in their order, ``own`` (names of X) first."""
        if y is None and (self.needs_labels or text is None):
            instead = "" if self.needs_labels else f"; without labels give {argument('text')}, one vector per class"
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None{instead}.")
        if text is None:
            assert y is not None
            found = Classes.of_labels(y, own)
        else:
            own = own if y is None or y.dtype.kind in "iu" else ()
            if own and names is not None:
                order = order_of_rows(own, names)
                text, names = text[order], [*own, *(names[k] for k in order[len(own) :])]
            found = Classes.of_text(y, own, names, len(text))
        if len(found.labels) < 2:
            raise InputError(
                f"{type(self).__name__} needs at least 2 classes, got {len(found.labels)} class in y; "
                "one class leaves nothing to decide."
            )
        self.classes_ = found.labels
        self.class_names_ = None if found.names is None else list(found.names)
        return text

    def _read_clip_features(self, clip_features: Any, X: Any, vectors: Tensor) -> Tensor:
        rows = read_rows(clip_features, "clip_features", mapped=self.streams).to(vectors.device)
        if len(rows) != len(vectors):
            raise InputError(
                f"Expected as many rows in clip_features as in X ({len(vectors)}), got {len(rows)}; "
                "row i of both must be the same image."
            )
        unnamed = tuple(map(str, range(len(rows))))
        ids = {given.ids for given in (clip_features, X) if isinstance(given, Features)} - {unnamed}
        if len(ids) > 1:
            raise InputError("Expected the images of X in clip_features, in the same order, got other ids.")
        return rows

    def _read_validation(self, validation: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        if isinstance(validation, Features):
            validation = validation, validation.labels
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise InputError(f"Expected validation as (X, y) or labeled Features, got {type(validation).__name__}.")
        X, y = validation
        rows = self._read_vectors(X, reset=False).to(device)
        codes = self._classes.codes(read_labels(y, len(rows), "per validation row"), names_of(X))
        require_no_test(X, codes != UNLABELED)
        if not (codes != UNLABELED).any():
            raise InputError("Expected labeled images for validation, got none; leave validation out.")
        return rows, torch.from_numpy(codes).to(device)

    def _read_parts(self, X: Any, vectors: Tensor) -> Tensor | None:
        """(n, N, d) crops or patches of the images whose vectors were read, where the method takes such."""
        if not self.takes_parts or not isinstance(X, Features) or X.tokens is None:
            return None
        return read_parts(X.tokens, vectors)

    def _read_vectors(self, X: Any, *, reset: bool) -> Tensor:
        if isinstance(X, Features):
            if not reset and self.encoder_ is not None:
                self.encoder_.require(X.spec)
            X = X.vectors
        tensor = read_rows(X, "X", mapped=self.streams and reset)
        if hasattr(X, "columns") or "feature_names_in_" in vars(self):  # what scikit-learn knows of names of columns
            from sklearn.utils.validation import validate_data

            try:
                validate_data(self, X, reset=reset, skip_check_array=True)
            except ValueError as error:
                raise InputError(f"X: {' '.join(str(error).split()):.300}") from None
        if reset:
            self.n_features_in_ = tensor.shape[1]
        elif tensor.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {tensor.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return tensor


def require_no_test(X: Any, labeled: np.ndarray) -> None:
    """Raise if labeled images (n,) are some that the source of the features marks as test images."""
    if isinstance(X, Features) and X.parts and (n := int(((np.array(X.parts) == "test") & labeled).sum())):
        images = "1 labeled image" if n == 1 else f"{n} labeled images"
        raise InputError(
            f"Expected images to learn from, got {images} that the source marks as test; leave them out: "
            "features.select([part != 'test' for part in features.parts])."
        )


def names_of(X: Any) -> tuple[str, ...]:
    """The names that integer labels of ``X`` are indices into."""
    return X.class_names if isinstance(X, Features) else ()
