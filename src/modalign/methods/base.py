"""The contract of methods on vectors: scikit-learn estimators that also know class text and a language anchor.

A method's own file holds its hyper-parameters and two functions, ``_fit`` and ``_scores``, which see validated
float32 tensors only. Everything that all methods share — reading arrays, labels, −1 for unlabelled, classes, NumPy in
NumPy out, torch in torch out — is here, once.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from modalign.errors import InputError, argument
from modalign.features import UNLABELLED, ClassText, EncoderSpec, Features
from modalign.linalg.calibration import fit_temperature
from modalign.linalg.prototypes import class_means, text_prototypes
from modalign.methods.parameters import check_parameters
from modalign.methods.selection import held_out

LOGIT_SCALE = 100.0  # where CLIP's training ends; of text whose encoder is unknown


@dataclass(frozen=True)
class Problem:
    """What a method is asked to learn from; all tensors float32 on one device, vectors as the user gave them.

    Attributes
    ----------
    X : (n, d) image vectors.
    y : (n,) class indices in 0…C−1, −1 = unlabelled.
    n_classes : C.
    text : (C, T, d) class-text vectors, zero rows where a class has fewer than T sentences; None without text.
    anchor : (n, a) the language-aligned view of the same images, or None.
    validation : (X, y) held out for choosing hyper-parameters, or None.
    parts : (n, N, d) vectors of crops or patches of the same images, for methods that take them; else None.
    logit_scale : trained inverse temperature of the encoder of the text, None if there is no text or it is unknown.
    ids : the n names of the images, one for all views of an image; None where they have none.
    """

    X: Tensor
    y: Tensor
    n_classes: int
    text: Tensor | None
    anchor: Tensor | None
    validation: tuple[Tensor, Tensor] | None
    parts: Tensor | None = None
    logit_scale: float | None = None
    ids: tuple[str, ...] | None = None

    def labelled(self) -> tuple[Tensor, Tensor]:
        """The rows of ``X`` that have a label, and their labels."""
        known = self.y != UNLABELLED
        return self.X[known], self.y[known]

    def prototypes(self) -> Tensor:
        """(C, d) unit class prototypes: the mean text direction, or the class means where there is no text."""
        if self.text is not None:
            return text_prototypes(self.text)
        return class_means(*self.labelled(), self.n_classes)


class VectorMethod(ClassifierMixin, BaseEstimator):
    """Base of all methods on vectors.

    Subclasses are dataclasses of their hyper-parameters, set the class attributes below and implement ``_fit`` and
    ``_scores``. Learned state ends in an underscore and is an array, tensor, number, string, list or dict, so that
    :mod:`modalign.persistence` saves any method without knowing it.

    Attributes
    ----------
    classes_ : (C,) labels in the order of the score columns.
    n_features_in_ : d.
    diagnosis_ : numbers that show whether the method's active ingredient does anything.
    temperature_ : what :meth:`predict_proba` divides the scores by: fitted on held-out images where ``fit`` had some,
        else 1.
    encoder_ : the :class:`~modalign.features.EncoderSpec` of the features it was fitted on, or None.
    logit_scale_ : of methods with a ``logit_scale``: the given one, else that of the encoder of the text, else 100.
    """

    title: ClassVar[str] = ""  # the name people know the method by
    paper: ClassVar[str] = ""  # authors, title, year, identifier
    needs_text: ClassVar[bool] = False  # refuses to fit without class text
    needs_labels: ClassVar[bool] = True  # with text given, still needs at least one labelled image
    needs_anchor: ClassVar[bool] = False  # refuses to fit without the language-aligned view
    takes_anchor: ClassVar[bool] = False  # text is in the space of the anchor where there is one, else in that of X
    takes_text: ClassVar[bool] = True  # learns something else where class text is given
    takes_labels: ClassVar[bool] = True  # learns something else from labels where class text is given
    streams: ClassVar[bool] = False  # is given memory-mapped vectors as they are, of any type, to read in blocks
    takes_parts: ClassVar[bool] = False  # looks at ``Features.tokens``, crops or patches of every image
    scores_parts: ClassVar[bool] = False  # also of the images it predicts, not only of those it learns from
    mirrors: ClassVar[bool] = False  # published with every training image doubled by its mirror
    choices: ClassVar[tuple[str, ...]] = ()  # hyper-parameters chosen on validation images; as used in ``<name>_``
    cross_validates: ClassVar[bool] = False  # without validation images, chooses them by cross-validation
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}  # an active ingredient switched off → the settings that do it

    @abstractmethod
    def _fit(self, problem: Problem) -> None:
        """Learn; set attributes that end in an underscore, among them ``diagnosis_``."""

    @abstractmethod
    def _scores(self, X: Tensor) -> Tensor:
        """(n, d) image vectors → (n, C) logits."""

    def fit(
        self,
        X: ArrayLike | Tensor | Features,
        y: ArrayLike | Tensor | None = None,
        *,
        text: ArrayLike | Tensor | ClassText | None = None,
        anchor: ArrayLike | Tensor | Features | None = None,
        validation: tuple[ArrayLike, ArrayLike] | Features | None = None,
    ) -> Self:
        """Learn from image vectors.

        Parameters
        ----------
        X : (n, d) image vectors, or :class:`Features` (whose labels are then used unless ``y`` is given).
        y : (n,) labels; −1 marks an unlabelled image where labels are integers.
        text : (C, d) or (C, T, d) class-text vectors in the order of the classes. With text and integer labels the
            classes are 0…C−1, so that a class may have no image yet; other labels are matched to the rows of
            ``text`` in sorted order. Without text, class means serve as prototypes.
        anchor : (n, a) the same images in a language-aligned space.
        validation : (X, y) or labelled :class:`Features`, for choosing hyper-parameters; never test data.

        Raises
        ------
        InputError (a ValueError) : one sentence saying what was expected, what came and what to do.
        """
        check_parameters(self)
        self.encoder_ = X.spec if isinstance(X, Features) else None
        problem = self._read_problem(X, y, text, anchor, validation)
        if hasattr(self, "logit_scale"):
            self.logit_scale_ = float(self.logit_scale or problem.logit_scale or LOGIT_SCALE)
        self.temperature_ = None
        self._fit(problem)
        if self.temperature_ is None:
            known = held_out(problem.validation)
            self.temperature_ = 1.0
            if known is not None:
                self._calibrate(self._scores(known[0]), known[1])
        return self

    def chosen(self) -> dict[str, Any]:
        """Values of :attr:`choices` as used: with them, the same images without validation images give this model."""
        check_is_fitted(self)
        return {name: getattr(self, f"{name}_") for name in self.choices}

    def scores(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
        """(n, C) logits, one column a class also when there are two (unlike ``decision_function``)."""
        check_is_fitted(self)
        tensor = self._read_vectors(X, reset=False)
        with torch.no_grad():
            scores = self._scores(tensor)
        return scores if isinstance(X, Tensor) else scores.cpu().numpy()

    def decision_function(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
        """(n, C) logits; for two classes, as scikit-learn has it, (n,) with positive meaning ``classes_[1]``."""
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
        """(n, C) softmax of the scores divided by :attr:`temperature_`.

        That is calibrated where ``fit`` had validation images or held some out, and 1 otherwise;
        :func:`~modalign.adapt` divides the scores by a temperature of its own, from held-out images.
        """
        scores = self.scores(X)
        probability = (torch.as_tensor(scores).double() / self.temperature_).softmax(dim=1)
        return probability.to(scores.dtype) if isinstance(X, Tensor) else probability.numpy()

    def predict(self, X: ArrayLike | Tensor | Features) -> np.ndarray | Tensor:
        """(n,) labels: the class with the highest score."""
        best = self.scores(X).argmax(1)
        if isinstance(best, Tensor):
            return torch.as_tensor(self.classes_, device=best.device)[best]
        return self.classes_[best]

    def _calibrate(self, logits: Tensor, y: Tensor) -> None:
        """Fit ``temperature_`` on the (n, C) scores of images that were not learned from, and their labels."""
        with torch.no_grad():
            self.temperature_ = fit_temperature(logits, y).value

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "diagnosis_")

    def _read_problem(self, X: Any, y: Any, text: Any, anchor: Any, validation: Any) -> Problem:
        if isinstance(X, Features) and y is None:
            y = X.labels
        vectors = self._read_vectors(X, reset=True)
        spec, aligned, name = self.encoder_, vectors, "X"
        if anchor is not None:
            anchor_spec = anchor.spec if isinstance(anchor, Features) else None
            anchor = _finite(anchor, "anchor", mapped=self.streams).to(vectors.device)
            if len(anchor) != len(vectors):
                raise InputError(
                    f"Expected as many rows in anchor as in X ({len(vectors)}), got {len(anchor)}; "
                    "row i of both must be the same image."
                )
            if self.takes_anchor or self.needs_anchor:
                spec, aligned, name = anchor_spec, anchor, "anchor"
        elif self.needs_anchor:
            raise InputError(
                f"{type(self).__name__} needs {argument('anchor')}: the same images in the language-aligned space."
            )
        text_tensor = self._read_text(text, aligned, spec, name)
        codes = self._read_labels(y, len(vectors), n_text=None if text_tensor is None else len(text_tensor))
        given = None
        if validation is not None:
            Xv, yv = (validation, validation.labels) if isinstance(validation, Features) else validation
            given = self._read_vectors(Xv, reset=False).to(vectors.device), self._encode(yv).to(vectors.device)
            if len(given[0]) != len(given[1]):
                raise InputError(f"Expected one label a validation row ({len(given[0])}), got {len(given[1])}.")
        parts = self._read_parts(X, vectors)
        spec = text.spec if isinstance(text, ClassText) and text.spec is not None else spec
        return Problem(
            vectors, codes.to(vectors.device), len(self.classes_), text_tensor, anchor, given, parts,
            logit_scale=None if text is None or spec is None else spec.logit_scale,
            ids=X.ids if isinstance(X, Features) else None,
        )  # fmt: skip

    def _read_parts(self, X: Any, vectors: Tensor) -> Tensor | None:
        """(n, N, d) crops or patches of the images whose vectors were read, where the method takes such."""
        if not self.takes_parts or not isinstance(X, Features) or X.tokens is None:
            return None
        parts = _finite(X.tokens, "tokens", ndim=(3,)).to(vectors.device)
        if len(parts) != len(vectors) or parts.shape[2] != vectors.shape[1] or not parts.shape[1]:
            raise InputError(
                f"Expected tokens of shape ({len(vectors)}, N, {vectors.shape[1]}), crops or patches of the images in "
                f"the space of their vectors, got {tuple(parts.shape)}."
            )
        return parts

    def _read_vectors(self, X: Any, *, reset: bool) -> Tensor:
        if isinstance(X, Features):
            if not reset and self.encoder_ is not None:
                self.encoder_.require(X.spec)
            X = X.vectors
        if isinstance(X, Tensor) or (self.streams and isinstance(X, np.memmap)):
            tensor = _finite(X, "X", mapped=self.streams)
            if reset:
                self.n_features_in_ = tensor.shape[1]
            elif tensor.shape[1] != self.n_features_in_:
                raise InputError(
                    f"X has {tensor.shape[1]} features, but {type(self).__name__} is expecting "
                    f"{self.n_features_in_} features as input."
                )
            return tensor
        array = validate_data(self, X, reset=reset, dtype=[np.float32, np.float64, np.float16])
        return torch.from_numpy(np.array(array, dtype=np.float32))

    def _read_text(self, text: Any, aligned: Tensor, spec: EncoderSpec | None, name: str) -> Tensor | None:
        """``aligned``, called ``name`` by the user, are the images in the space that the text must be in."""
        if text is None:
            if self.needs_text:
                raise InputError(
                    f"{type(self).__name__} needs {argument('text')}: (C, d) or (C, T, d) class-text vectors."
                )
            return None
        if isinstance(text, ClassText):
            if spec is not None:
                spec.require(text.spec)
            text = text.vectors
        tensor = _finite(text, "text", ndim=(2, 3)).to(aligned.device)
        tensor = tensor[:, None] if tensor.ndim == 2 else tensor
        if tensor.shape[2] != aligned.shape[1]:
            advice = "embed both with one vision-language encoder."
            if self.takes_anchor and name == "X":
                advice = (
                    f"if X is of another encoder, give {argument('anchor')}, the same images in the space of the text."
                )
            raise InputError(
                f"Expected text vectors of the width of {name} ({aligned.shape[1]}), got {tensor.shape[2]}; {advice}"
            )
        if len(tensor) < 2:
            raise InputError(
                f"Expected text of at least 2 classes, got {len(tensor)}; one class leaves nothing to decide."
            )
        if bool((tensor == 0).all(dim=2).all(dim=1).any()):
            raise InputError("Expected at least one sentence a class, got a class whose text vectors are all zero.")
        return tensor

    def _read_labels(self, y: Any, n: int, n_text: int | None) -> Tensor:
        """Sets ``classes_``; returns class indices with −1 for unlabelled."""
        if y is None:
            if self.needs_labels or n_text is None:
                raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
            self.classes_ = np.arange(n_text)
            return torch.full((n,), UNLABELLED)
        labels = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            from sklearn.utils.validation import column_or_1d

            labels = column_or_1d(labels, warn=True)
        if labels.shape != (n,):
            raise InputError(f"Expected one label a row of X ({n}), got labels of shape {labels.shape}.")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The number of unique classes")  # one image a class is normal
            check_classification_targets(labels)
        integers = np.issubdtype(labels.dtype, np.integer)
        known = np.unique(labels[labels != UNLABELLED]) if integers else np.unique(labels)
        if n_text is None:
            self.classes_ = known
        elif integers:
            if len(known) and not 0 <= known.min() <= known.max() < n_text:
                raise InputError(
                    f"Expected labels in 0…{n_text - 1}, one a row of text, or -1 for unlabelled; "
                    f"got {known.min()}…{known.max()}."
                )
            self.classes_ = np.arange(n_text)
        elif len(known) == n_text:
            self.classes_ = known
        else:
            raise InputError(f"Expected as many classes in y as rows of text ({n_text}), got {len(known)}.")
        if len(self.classes_) < 2:
            raise InputError(
                f"{type(self).__name__} needs at least 2 classes, got {len(self.classes_)} class in y; "
                "one class leaves nothing to decide."
            )
        if self.needs_labels and not len(known):
            raise InputError(f"{type(self).__name__} needs at least one labelled image, got none.")
        return self._encode(labels)

    def _encode(self, y: Any) -> Tensor:
        labels = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
        codes = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        codes = np.where(self.classes_[codes] == labels, codes, UNLABELLED)
        unlabelled = labels == UNLABELLED if np.issubdtype(labels.dtype, np.integer) else np.zeros(len(labels), bool)
        strangers = np.unique(labels[(codes == UNLABELLED) & ~unlabelled])
        if len(strangers):
            raise InputError(f"Expected labels among the fitted classes, got {strangers[:3].tolist()}.")
        return torch.from_numpy(codes.astype(np.int64))


def _finite(array: Any, name: str, ndim: tuple[int, ...] = (2,), *, mapped: bool = False) -> Tensor:
    """Any array as a finite float32 tensor of one of the given dimensions, on its own device.

    With ``mapped`` a memory-mapped array stays on its file, of the type it has there.
    """
    array = array.vectors if isinstance(array, (Features, ClassText)) else array
    mapped = mapped and isinstance(array, np.memmap)
    if mapped:
        with warnings.catch_warnings():  # torch warns that the file must not be written to; nothing here does
            warnings.simplefilter("ignore", UserWarning)
            tensor = torch.from_numpy(np.asarray(array))
    else:
        tensor = torch.as_tensor(array if isinstance(array, Tensor) else np.array(array, dtype=np.float32))
        tensor = tensor.detach().to(torch.float32)
    if tensor.ndim not in ndim or 0 in tensor.shape:
        wanted = " or ".join(f"{d}-dimensional" for d in ndim)
        raise InputError(f"Expected {name} to be a non-empty {wanted} array, got shape {tuple(tensor.shape)}.")
    step = max(1, 2**22 // tensor[0].numel()) if mapped else len(tensor)
    if not all(bool(torch.isfinite(part).all()) for part in tensor.split(step)):
        raise InputError(f"Expected finite numbers in {name}, got NaN or infinity; check the images it came from.")
    return tensor


__all__ = ["EncoderSpec", "Problem", "VectorMethod"]
