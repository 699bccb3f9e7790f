"""Base class of methods on vectors: scikit-learn estimators with class text and CLIP features.

A method defines its hyper-parameters and two functions, ``_fit`` and ``_scores``, which get validated float32 tensors.
Input validation is in :mod:`modalign.methods.contract.problem`; conversion between NumPy and torch and all other shared
functions are here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.core.labels import UNLABELED
from modalign.core.renaming import renamed_arguments
from modalign.linalg.calibration import fit_temperature, sharpened
from modalign.linalg.inputs import single
from modalign.methods.contract.calibrating import own_temperature, refits
from modalign.methods.contract.class_names import read_labels
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.parameters import check_parameters
from modalign.methods.contract.problem import Problem, ProblemReader, names_of
from modalign.methods.contract.rows import read_weights
from modalign.methods.contract.selection import held_out
from modalign.methods.contract.sharing import shared_fits
from modalign.methods.contract.team import current_team
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.transfer import with_classes
from modalign.tune.threads import threads_for_vectors, using_threads

Rows = np.ndarray | Sequence[Sequence[float]]  # functions that return NumPy arrays
SCORED = 2**14  # rows of an array that are scored at a time
LOGIT_SCALE = 100.0  # where CLIP's training ends; of text whose encoder is unknown


class VectorMethod(ProblemReader):
    """Base class of all methods on vectors.

    Subclasses are dataclasses of their hyper-parameters, set the class attributes below and implement ``_fit`` and
    ``_scores``. Learned state ends in an underscore and is an array, tensor, number, string, list or dict, so that
    :mod:`modalign.model.persistence` can save every method.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        Labels in the order of the score columns. Without class text, the sorted labels that occur; with class text, one
        per row of text: class names if ``y`` contains names, else 0…C−1.
    class_names_ : list of str or None
        The C names in the same order, or None if no input has names.
    n_features_in_ : int
        d.
    diagnosis_ : dict
        Numbers that show whether the main component of the method has an effect.
    temperature_ : float
        Divisor of the scores in :meth:`predict_proba`: fitted on held-out images if ``fit`` had some, else 1.
    encoder_ : EncoderSpec or None
        Identity of the encoder of the features, or None.
    fitted_answers_ : dict
        Transductive predictions for the fitted images, see
        :func:`~modalign.methods.contract.transduction.keep_answers`. :class:`~modalign.Classifier` returns them for the
        same images; :meth:`predict` predicts every image by itself.
    fitted_with_text_ : bool
        Whether class text was passed to :meth:`fit`.
    random_state_ : int
        Seed as used, drawn if ``random_state`` is None; it reproduces the model.
    logit_scale_ : float
        For methods with a ``logit_scale``: the given value, else that of the text encoder, else 100.
    """

    title: ClassVar[str] = ""  # common name of the method
    paper: ClassVar[str] = ""  # authors, title, year, identifier
    takes_text: ClassVar[bool] = True  # learns something else where class text is given
    takes_labels: ClassVar[bool] = True  # learns something else from labels where class text is given
    scores_parts: ClassVar[bool] = False  # also of the images it predicts, not only of those it learns from
    takes_unlabeled: ClassVar[bool] = True  # where labels are optional: learns from other images beside labeled ones
    mirrors: ClassVar[bool] = False  # published with every training image doubled by its mirror
    small_steps: ClassVar[bool] = False  # trains by steps on small batches, however many the vectors
    choices: ClassVar[tuple[str, ...]] = ()  # hyper-parameters chosen on validation images; as used in ``<name>_``
    cross_validates: ClassVar[bool] = False  # without validation images, chooses them by cross-validation
    refits_to_calibrate: ClassVar[bool] = False  # fits fast enough for a few further fits for the temperature
    transfers: ClassVar[bool] = False  # compares images with the class text in ``prototypes_`` alone
    sums_over_processes: ClassVar[bool] = False  # learns from the rows of several processes, see ``contract.team``
    judges_itself: ClassVar[bool] = False  # its ``out_of_fold()`` has predictions that ``fit`` made on the way
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}  # an active ingredient switched off → the settings that do it

    diagnosis_: dict[str, Any]
    temperature_: float

    @abstractmethod
    def _fit(self, problem: Problem) -> None:
        """Fit; set attributes that end in an underscore, including ``diagnosis_``."""

    @abstractmethod
    def _scores(self, X: Tensor) -> Tensor:
        """Return logits (n, C) of image vectors (n, d)."""

    @staticmethod
    def _refit(models: Sequence[Any], problems: Sequence[Problem]) -> None:
        """Fit copies of one method for their scores; overridden where it is faster to train them side by side."""
        for model, problem in zip(models, problems, strict=True):
            model._fit(problem)

    @renamed_arguments(anchor="clip_features")
    def fit(
        self,
        X: ArrayLike | Tensor | Features,
        y: ArrayLike | Tensor | None = None,
        *,
        text: ArrayLike | Tensor | ClassText | None = None,
        clip_features: ArrayLike | Tensor | Features | None = None,
        validation: tuple[ArrayLike, ArrayLike] | Features | None = None,
        classes: Sequence[str] | None = None,
    ) -> Self:
        """Fit to image vectors.

        Parameters
        ----------
        X : array-like of shape (n, d), Tensor or Features
            Image vectors, of which only the directions are used; or :class:`Features`, whose labels are used unless
            ``y`` is passed. Integer labels are indices into its ``class_names``.
        y : array-like of shape (n,), Tensor or None, default=None
            Labels: integers, where −1 marks an unlabeled image, or class names.
        text : array-like of shape (C, d), Tensor, ClassText or None, default=None
            Class-text vectors, also (C, T, d) with several sentences per class. Classes without images are allowed.
            Class names in ``y`` and ``X`` are matched with those of the text by name, in any order, and each must have
            text. Integers in ``y`` are row numbers of ``text``, unless ``X`` has class names. Without text, class means
            are the prototypes.
        clip_features : array-like of shape (n, a), Tensor, Features or None, default=None
            Features of the same images in the space of the text.
        validation : tuple of (array-like, array-like), Features or None, default=None
            Validation images (X, y), or labeled :class:`Features`, for selecting hyper-parameters; never test data.
        classes : sequence of str or None, default=None
            Names of the rows of ``text`` if it is an array; for :class:`ClassText`, the classes to use, in this order.

        Raises
        ------
        InputError
            The input is invalid; raised before the computation starts. A subclass of ValueError.
        """
        check_parameters(self)
        if current_team().count > 1 and not self.sums_over_processes:
            raise InputError(
                f"Expected a method that learns from images in several processes, such as GPUA, got "
                f"{type(self).__name__}; give it the images of all in one process."
            )
        self.encoder_ = X.spec if isinstance(X, Features) else None
        with using_threads(1 if self.small_steps else threads_for_vectors(_array(X))):
            problem = self._read_problem(X, y, text, clip_features, validation, classes)
            self.fitted_with_text_ = text is not None
            if hasattr(self, "random_state"):
                self.random_state_ = current_team().seed(seeded(self.random_state).initial_seed())
            if hasattr(self, "logit_scale"):
                self.logit_scale_ = float(self.logit_scale or problem.logit_scale or LOGIT_SCALE)
            shared = shared_fits()
            if shared is None:
                self._learn(problem)
            else:
                shared.fit(self, problem, lambda: self._learn(problem))
        return self

    def _learn(self, problem: Problem) -> None:
        """``_fit``, and the temperature where it fits none itself."""
        self.__dict__.pop("temperature_", None)
        self.__dict__.pop("fitted_answers_", None)
        self._fit(problem)
        self.__dict__.setdefault("diagnosis_", {})  # also of a method of another package that sets none
        if not hasattr(self, "temperature_"):
            known = held_out(problem.validation)
            self.temperature_ = 1.0
            if known is not None:
                self._calibrate(self._scores(known[0]), known[1])
            elif refits(self, problem):
                self.temperature_ = own_temperature(self, problem)

    def chosen(self) -> dict[str, Any]:
        """Return the selected values of :attr:`choices`, which reproduce the model without validation images."""
        require_fitted(self)
        return {name: getattr(self, f"{name}_") for name in self.choices}

    def head(self) -> Callable[[Tensor], Tensor]:
        """From (n, d) vectors to (n, C) logits, for a recorded graph: the numbers of ``_scores`` for any n.

        Methods whose ``_scores`` works in blocks or solves systems have one of their own.
        """
        require_fitted(self)
        return self._scores

    def for_classes(self, text: ClassText) -> Self:
        """Apply the fitted method to other classes; see :func:`~modalign.methods.contract.transfer.with_classes`."""
        return with_classes(self, text)

    @overload
    def scores(self, X: Tensor) -> Tensor: ...
    @overload
    def scores(self, X: Rows | Features) -> np.ndarray: ...
    def scores(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """Return logits (n, C), with two columns for two classes (unlike ``decision_function``)."""
        scores = self._scored(X, lambda scores: scores)
        return scores if isinstance(X, Tensor) else scores.cpu().numpy()

    def _scored(self, X: Rows | Tensor | Features, finish: Callable[[Tensor], Tensor]) -> Tensor:
        """What ``finish`` makes of the scores of all rows; of many rows in an array, block by block.

        A memory map is so never copied as a whole: the memory in addition to the result is that of a block.
        """
        require_fitted(self)
        vectors = _array(X)
        with torch.no_grad(), using_threads(threads_for_vectors(vectors)):
            if not isinstance(vectors, np.ndarray) or len(vectors) <= SCORED:
                return finish(self._scores(single(self._read_vectors(X, reset=False))))
            if isinstance(X, Features) and self.encoder_ is not None:
                self.encoder_.require(X.spec)
            blocks = (vectors[start : start + SCORED] for start in range(0, len(vectors), SCORED))
            return torch.cat([finish(self._scores(single(self._read_vectors(b, reset=False)))) for b in blocks])

    @overload
    def decision_function(self, X: Tensor) -> Tensor: ...
    @overload
    def decision_function(self, X: Rows | Features) -> np.ndarray: ...
    def decision_function(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """Return logits (n, C); for two classes (n,), positive for ``classes_[1]``, as in scikit-learn."""
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    @overload
    def predict_proba(self, X: Tensor) -> Tensor: ...
    @overload
    def predict_proba(self, X: Rows | Features) -> np.ndarray: ...
    def predict_proba(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """Return the softmax of the scores divided by :attr:`temperature_`, (n, C).

        The temperature is fitted on validation images, or on images that ``fit`` or refits hold out, and is 1 for
        methods that do neither. :func:`~modalign.adapt` fits its own temperature on held-out images.
        """
        scores = torch.as_tensor(self.scores(X))
        probability = (scores.double() / self.temperature_).softmax(dim=1).to(scores.dtype)
        return probability if isinstance(X, Tensor) else probability.numpy()

    @overload
    def predict(self, X: Tensor) -> Tensor: ...
    @overload
    def predict(self, X: Rows | Features) -> np.ndarray: ...
    def predict(self, X: Rows | Tensor | Features) -> np.ndarray | Tensor:
        """Return the labels (n,) with the highest score. Names are returned as a NumPy array also for torch input."""
        best = self._scored(X, lambda scores: scores.argmax(dim=1))
        if isinstance(X, Tensor) and self.classes_.dtype.kind in "iufb":
            return torch.as_tensor(self.classes_, device=best.device)[best]
        return self.classes_[best.cpu().numpy()]

    def score(
        self,
        X: Rows | Tensor | Features,
        y: ArrayLike | Tensor | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array-like of shape (n, d), Tensor or Features
            Image vectors, or :class:`Features`, whose labels are used unless ``y`` is passed.
        y : array-like of shape (n,), Tensor or None, default=None
            Labels, matched by name if they are names or ``X`` has class names. Images labeled −1 are left out; an
            integer that is not a class of the fit counts as wrong.
        sample_weight : array-like or None, default=None
            Weights of the images, of shape (n,).
        """
        if y is None and isinstance(X, Features):
            y = X.labels
        best = self._scored(X, lambda scores: scores.argmax(dim=1)).cpu().numpy()
        true = self._classes.codes(read_labels(y, len(best)), names_of(X), closed=False)
        known = true != UNLABELED
        if not known.any():
            raise InputError("Expected labeled images to be tested on, got none.")
        weight = read_weights(sample_weight, known)
        return float(np.average(true[known] == best[known], weights=weight))

    def _calibrate(self, logits: Tensor, y: Tensor, growth: float = 1.0) -> None:
        """Fit ``temperature_`` on the (n, C) scores of images that were not learned from, and their labels.

        ``growth`` is how many labeled images per class the method has for one that the models of these scores had.
        """
        with torch.no_grad():
            self.temperature_ = 1 / sharpened(logits.double(), 1 / fit_temperature(logits, y), growth)


def _array(X: ArrayLike | Tensor | Features) -> ArrayLike | Tensor:
    return X.vectors if isinstance(X, Features) else X


__all__ = ["EncoderSpec", "Problem", "VectorMethod"]
