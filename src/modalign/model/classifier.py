"""The adapted classifier: an encoder, a fitted method, class names and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.core.display import SHOWN, html_table, shorten_all, shorten_repr
from modalign.core.errors import InputError, argument, require_choice
from modalign.core.features import Features
from modalign.core.record import versions
from modalign.data.items import load_items
from modalign.data.splits.split import Split
from modalign.linalg.rejection import Rejection
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod
from modalign.model import explaining
from modalign.model.adding import method_in_words, with_class
from modalign.model.evaluating import evaluated, has_images_to_test_on
from modalign.model.hub.hub_transfer import push
from modalign.model.persistence import Description, save_model
from modalign.model.predictions import Evaluation, Prediction, Predictions
from modalign.model.refusing import require_rejection
from modalign.model.scoring import Answered, answer

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder
    from modalign.model.explaining import DeletionTest, Explanation

__all__ = ["Classifier", "Evaluation", "Prediction", "Predictions"]


@dataclass(repr=False)
class Classifier:
    """Adapted image classifier with calibrated probabilities.

    Attributes
    ----------
    encoder : Encoder or JoinedEncoder
        Encoder of the images.
    method : VectorMethod or TowerMethod
        The fitted method, on those vectors or inside the encoder.
    class_names : tuple of str
        C names, in the order of the method's score columns.
    temperature : float, default=1.0
        Scores are divided by it before the softmax; fitted on validation images.
    fitted_on : frozenset of str
        Content hashes of the images used for fitting or validation, which are never tested on.
    rejection : Rejection or None, default=None
        Reference confidences of held-out images; None if there were none.
    record : dict
        Record of the fit: shots, seed, counts, seconds, notes.
    crops : int, default=0
        Crops per image in addition to the whole, in the fit and, if the method scores crops, in predictions.
    validated_on : frozenset of str or None, default=None
        Those of ``fitted_on`` that were used for validation only; None if unknown.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method="gda", validation="none", mirror=False)
    >>> model.predict(digits.select([0]))[0].name
    'zero'
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    >>> model.evaluate(load_digits().select(range(30, 60))).accuracy.n
    30
    """

    encoder: Encoder | JoinedEncoder
    method: VectorMethod | TowerMethod
    class_names: tuple[str, ...]
    temperature: float = 1.0
    fitted_on: frozenset[str] = frozenset()
    rejection: Rejection | None = None
    record: dict[str, Any] = field(default_factory=dict)
    crops: int = 0
    validated_on: frozenset[str] | None = None

    def predict(self, images: Any, *, reject: bool | float = False) -> Predictions:
        """Predict names and calibrated probabilities for paths, PIL images, a folder, a list file or an archive.

        Methods without labels may compute predictions for the fitted images jointly. These are returned for the same
        images, recognized by their bytes, and marked in ``transductive``.

        Parameters
        ----------
        images : object
            Images to classify.
        reject : bool or float, default=False
            Predict "none of these" for images with an unusually low confidence. A number is the expected share of
            rejected images of known classes, if they have the distribution of the held-out images (see
            :class:`~modalign.linalg.rejection.Rejection`); True is 0.05.

        Raises
        ------
        InputError
            ``reject`` is set, and the model has no held-out images or too few for that share.
        """
        if not isinstance(reject, (bool, int, float, np.number)):
            raise InputError(f"Expected {argument('reject')} as a share of images, True or False, got {reject!r}.")
        level = 0.05 if reject is True else float(reject)
        rejection = None if reject is False else self.require_rejection(level)
        found = self._answer(images)
        scored, rejected = found.scored, None
        if rejection is not None:
            rejected = rejection.rejects(torch.from_numpy(scored.logits / self.temperature), level).numpy()
        origin = {
            "version": versions()["modalign"],
            "encoder": {"name": self.encoder.spec.name, "fingerprint": self.encoder.spec.fingerprint},
            "model": {"method": type(self.method).__name__},
        }
        return Predictions(
            scored.ids, self.class_names, found.probabilities, scored.quarantined, rejected, origin, found.transductive
        )

    def predict_proba(self, images: Any, *, errors: str = "raise") -> np.ndarray:
        """(n, C) calibrated probabilities, float64, columns as ``class_names``, rows in the order of the images.

        A list has a row per entry. A folder, an archive or a table has a row per image in the order of
        ``load_items(images).given``, where files that cannot even be opened come last.

        Parameters
        ----------
        images : object
            As for :meth:`predict`.
        errors : {"raise", "nan"}, default="raise"
            For images that cannot be decoded: ``"raise"`` an error that names them, or return a row of ``"nan"``.

        Raises
        ------
        InputError
            An image cannot be decoded and ``errors`` is ``"raise"``, or none can.
        """
        require_choice("errors", errors, ("raise", "nan"))
        items = images if isinstance(images, Features) else load_items(images)
        found = self.predict(items)
        if found.quarantined and errors == "raise":
            reasons = ", ".join(f"'{entry.id}' ({entry.reason})" for entry in found.quarantined[:3])
            more = f" and {len(found.quarantined) - 3} more" if len(found.quarantined) > 3 else ""
            raise InputError(
                f"Expected images that can be decoded, got {reasons}{more}; leave them out, or give "
                f"{argument('errors', 'nan')} for a row of NaN each."
            )
        if isinstance(items, Features):
            return found.probabilities
        rows = dict(zip(found.ids, found.probabilities, strict=True))
        missing = np.full(len(self.class_names), np.nan)
        return np.stack([rows.get(name, missing) for name in items.given])

    def evaluate(
        self, images: Any, *, split: str | Path | Split | None = None, classes: Any = None, include_fitted: bool = False
    ) -> Evaluation:
        """Accuracy on labeled images (a folder per class, a CSV, …).

        Of a source that marks some images as test, only these count; ``split`` may be a split file, or a split of the
        given items, that marks them. ``classes`` is needed where :func:`~modalign.adapt` was given it to name folders.
        Images that the model was fitted on or validated with are recognized by their bytes and left out, so that the
        training folder can be passed as a whole; ``include_fitted=True`` keeps them. Images whose bytes carry two
        labels are left out, unless the source marks them as test. The answers are those of :meth:`predict`.
        """
        return evaluated(self, images, split, classes, include_fitted=include_fitted)

    def can_evaluate(self, images: Any, *, split: str | Path | Split | None = None, classes: Any = None) -> bool:
        """Whether :meth:`evaluate` finds an image to test on: labeled, decodable, and not one it was fitted on."""
        return has_images_to_test_on(self, images, split, classes)

    def add_class(
        self, name: str, images: Any = None, *, sentences: str | Sequence[str] | None = None, check: Any = None
    ) -> Classifier:
        """Return the classifier with one more class, without another fit.

        The class is added by its text, and the method decides among its own classes as before, see
        :class:`~modalign.methods.added.added_classes.AddedClasses`; a method in an encoder is given all class texts.
        The result has no "none of these" and no accuracy of the fit; ``record["additions"]`` has what was measured.

        Parameters
        ----------
        name : str
            Name of the class.
        images : object, default=None
            Images of the class, from which its correction is fitted.
        sentences : str, sequence of str or None, default=None
            Sentences about the class; by default from the templates of the other classes.
        check : object, default=None
            Images of the other classes that the model was not fitted on: at most 1 % of them get the new class.

        Raises
        ------
        InputError
            The name is taken, the encoder has no text tower or one of another space, or no image to check is left.

        Examples
        --------
        >>> import modalign as ma
        >>> from modalign.data.digits import load_digits
        >>> model = ma.adapt(load_digits().select(range(30)), method="gda", mirror=False)
        >>> model.add_class("letter").class_names[-1]
        'letter'
        """
        return with_class(self, name, images, sentences, check)

    def deletion_test(self, images: Any, *, random_state: int = 0, limit: int = 200) -> DeletionTest:
        """Test whether the patches that :meth:`explain` marks matter more than others; 7 forward passes per image.

        Parameters
        ----------
        images : object
            Images, labeled or not; those that the model was fitted on are left out.
        random_state : int, default=0
            Seed of the images, where there are more than ``limit``, and of the random patches.
        limit : int, default=200
            Largest number of images.
        """
        return explaining.run_deletion_test(self, images, random_state=random_state, limit=limit)

    def explain(self, image: Any, *, label: str | None = None, check: Any = None, labeled: Any = None) -> Explanation:
        """Explain the answer for one image: patch maps, the nearest labeled images, and the nearest sentences.

        Parameters
        ----------
        image : object
            One image.
        label : str or None, default=None
            Class to explain, whose labeled images are the neighbors. Default: the most probable one, neighbors of any.
        check : object, default=None
            A :class:`DeletionTest`, or the images for one. Maps are shown only where it is passed.
        labeled : object, default=None
            Labeled images, such as those of the fit, to find neighbors among.
        """
        return explaining.explained(self, image, label=label, check=check, labeled=labeled)

    def save(self, folder: str | Path) -> Path:
        """Write the model as safetensors and a JSON card; the encoder is named and hashed, not copied."""
        learned = {field.name: getattr(self, field.name) for field in fields(Description)}
        return save_model(folder, self.method, Description(**learned | {"encoder": self.encoder.spec}))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        evaluation: Evaluation | None = None,
        license: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        fingerprints: bool = False,
    ) -> str:
        """Upload the model to the Hugging Face hub, with a page that describes it; returns the address of the commit.

        Parameters
        ----------
        repo_id : str
            ``user/name``; made if it is not there.
        evaluation : Evaluation or None, default=None
            Of :meth:`evaluate`, for the page; by default the accuracy on held-out training images is stated.
        license, token : str or None, default=None
            For the page, and to log in.
        private : bool or None, default=None
            For a repository that is made.
        fingerprints : bool, default=False
            Include hashes of the training images, so that they are left out in testing. Anyone who has an image can
            then find out whether it was among them.
        """
        return push(
            self, repo_id, evaluation=evaluation, license=license, private=private, token=token,
            fingerprints=fingerprints,
        )  # fmt: skip

    def __repr__(self) -> str:
        fitted = f"; fitted on {len(self.fitted_on)} images" if self.fitted_on else ""
        return (
            f"Classifier({method_in_words(self.method)} on {shorten_repr(self.encoder.spec.name)}, "
            f"{len(self.class_names)} classes: {shorten_all(self.class_names)}{fitted})"
        )

    def _repr_html_(self) -> str:
        facts = {
            "method": method_in_words(self.method),
            "encoder": f"{self.encoder.spec.name} ({self.encoder.spec.fingerprint[:12]})",
            "classes": f"{len(self.class_names)}: {shorten_all(self.class_names, SHOWN)}",
            "images it was fitted on": str(len(self.fitted_on) or "–"),
            "temperature": f"{self.temperature:.3g}",
            "can reject": "no" if self.rejection is None else "yes",
        }
        return html_table("Classifier", ["", ""], list(facts.items()))

    def _answer(self, images: Any) -> Answered:
        return answer(self.encoder, self.method, images, temperature=self.temperature, crops=self.crops)

    def require_rejection(self, level: float) -> Rejection:
        """Return the rejection; raise, with advice, unless enough images were held out for ``level``."""
        return require_rejection(self, level)
