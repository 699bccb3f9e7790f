"""The figures of a fitted classifier on labeled images, each with its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.core.randomness import require_seed
from modalign.core.record import plain
from modalign.data.copies import content_hash
from modalign.data.items import Items
from modalign.encoders.clip import ClipEncoder
from modalign.evaluate.metrics import per_class_accuracy
from modalign.linalg.gaussians import modality_gap
from modalign.methods.fair.crop_samples import sampled_crop_weights
from modalign.methods.fair.self_training import SelfTrained
from modalign.model.classifier import Classifier
from modalign.model.scoring import embed_images, image_hashes
from modalign.model.tested_items import labels_among
from modalign.report import statements
from modalign.report.gap import plot_modality_gap
from modalign.report.papers.crop_figures import crop_weight_density
from modalign.report.papers.embedding import embedding_map
from modalign.report.papers.fit_curves import pseudo_label_curve, selection_curves, training_curves
from modalign.report.papers.outcomes import error_reversal, per_class_comparison
from modalign.report.papers.pair_similarity import matching_matrix, similarity_histograms, similarity_kinds
from modalign.report.papers.spaces import Space, adapted_space, frozen_space, vision_parts
from modalign.report.style import Picture
from modalign.report.text import count

SHOWN = 600  # images of a map or a cloud at most
WIDEST = 60  # classes of a matching matrix at most
CROPPED = 24  # images whose crops are weighted at most


@dataclass(frozen=True)
class FigureGroup:
    """Figures that belong together.

    Attributes
    ----------
    heading, text : str
        What they show.
    pictures : sequence of Picture
        At least one.
    images : int, default=0
        Number of the given images, which they are about; 0 for figures about the fit alone.
    fitted : int, default=0
        Number of these images that the model was fitted on or validated with.
    """

    heading: str
    text: str
    pictures: Sequence[Picture]
    images: int = 0
    fitted: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the figures."""
        if not self.fitted:
            return ()
        return (
            f"the model was fitted on or validated with {self.fitted:,} of the {self.images:,} images; accuracies and "
            "errors on them say little about new images",
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers that are drawn, for JSON."""
        return {
            "heading": self.heading,
            "images": self.images,
            "fitted": self.fitted,
            "notes": list(self.notes),
            "figures": [{"title": p.title, "alt": p.alt, "data": plain(_lists(p.data))} for p in self.pictures],
        }


@dataclass(frozen=True)
class Shown:
    """What the figures are made from.

    Attributes
    ----------
    model : Classifier
        The classifier.
    items : Items
        n images that can be decoded, all labeled.
    labels : ndarray of shape (n,)
        Their classes, in the numbering of the model.
    probabilities : ndarray of shape (n, C)
        Of the model.
    vectors : ndarray of shape (n, d)
        Of the frozen encoder.
    frozen, adapted : Space or None
        Images and class vectors before and after the fit, where the method compares them by cosine.
    """

    model: Classifier
    items: Items
    labels: np.ndarray
    probabilities: np.ndarray
    vectors: np.ndarray
    frozen: Space | None
    adapted: Space | None

    @classmethod
    def of(cls, model: Classifier, items: Items) -> Shown:
        """Embed and answer labeled images; images without a label or that cannot be decoded are left out."""
        labels = labels_among(model.class_names, items)
        known = np.flatnonzero(labels != UNLABELED)
        if not len(known):
            raise InputError(f"Expected labeled images for the figures, got {len(items)} without a label.")
        features = embed_images(model.encoder, items.select(known))
        place = {name: i for i, name in enumerate(items.ids)}
        rows = np.array([place[name] for name in features.ids])
        items = items.select(rows)
        return cls(
            model, items, labels[rows], model.predict(items).probabilities, features.vectors,
            frozen_space(model, features.vectors), adapted_space(model, items, features.vectors),
        )  # fmt: skip

    @property
    def some(self) -> np.ndarray:
        """Rows of at most 600 images, evenly spaced."""
        return np.unique(np.linspace(0, len(self.labels) - 1, min(SHOWN, len(self.labels))).round().astype(int))


def model_figures(model: Classifier, items: Items, *, seed: int = 0) -> list[FigureGroup]:
    """All figures that a classifier has on some labeled images.

    Parameters
    ----------
    model : Classifier
        A fitted classifier.
    items : Items
        Labeled images of its classes. The accuracy of pseudo-labels by epoch needs those of the fit.
    seed : int, default=0
        Of t-SNE and of the crops.

    Returns
    -------
    list of FigureGroup
        Those that the method has. Cost: vectors and answers of the images, and t-SNE of at most 600, O(n log n).
    """
    require_seed(seed, "seed")
    shown = Shown.of(model, items)
    fitted = sum(content_hash(shown.items, i) in model.fitted_on for i in range(len(shown.items)))
    made: list[Callable[[Shown, int], FigureGroup | None]] = [
        _similarities, _matching, _maps, _gap, _errors, _selection, _training, _pseudo_labels, _crops,
    ]  # fmt: skip
    found = [group for make in made if (group := make(shown, seed)) is not None and group.pictures]
    return [replace(one, fitted=fitted if one.images else 0) for one in found]


def _similarities(shown: Shown, seed: int) -> FigureGroup | None:
    pictures = [
        similarity_histograms(similarity_kinds(*space, shown.labels), title=f"Cosines, {when}")
        for when, space in (("frozen encoder", shown.frozen), ("after the fit", shown.adapted))
        if space is not None
    ]
    text = "Cosines of images with the text of their own class and of other classes, and of the texts of two classes."
    return FigureGroup("Similarity of images and class texts", text, pictures, len(shown.labels))


def _matching(shown: Shown, seed: int) -> FigureGroup | None:
    present = np.unique(shown.labels)
    names = shown.model.class_names
    if len(present) < len(names) or len(names) > WIDEST:
        return None
    text = "Each row holds the images of a class, each column the mean probability that they give one class."
    return FigureGroup(
        "Matching matrix", text, [matching_matrix(shown.probabilities, shown.labels, names)], len(shown.labels)
    )


def _maps(shown: Shown, seed: int) -> FigureGroup | None:
    rows, names = shown.some, shown.model.class_names
    parts = vision_parts(shown.model, shown.vectors)
    language = getattr(shown.model.encoder, "language", None)
    spaces = [(language.name if parts and language else "frozen encoder", shown.frozen or _without_text(shown.vectors)),
              *((name, _without_text(part)) for name, part in parts.items()),
              ("after the fit", shown.adapted)]  # fmt: skip
    pictures = [
        embedding_map(space.images[rows], shown.labels[rows], names, texts=space.texts if len(space.texts) else None,
                      seed=seed, title=f"Image vectors by t-SNE, {when}")
        for when, space in spaces if space is not None
    ]  # fmt: skip
    text = "t-SNE keeps neighborhoods. Distances between groups and sizes of groups mean nothing."
    return FigureGroup("Images and class vectors in a plane", text, pictures, len(shown.labels))


def _without_text(vectors: np.ndarray) -> Space:
    return Space(vectors, np.empty((0, vectors.shape[1])))


def _gap(shown: Shown, seed: int) -> FigureGroup | None:
    if shown.frozen is None or shown.adapted is None:
        return None
    rows = shown.some
    pairs = [(space.images[rows], space.texts) for space in (shown.frozen, shown.adapted)]
    gaps = [vars(modality_gap(*(torch.from_numpy(part) for part in pair))) for pair in pairs]
    picture = plot_modality_gap(*pairs, labels=shown.labels[rows])
    data = {f"{name}, {when}": value for when, gap in zip(("before", "after"), gaps, strict=True)
            for name, value in gap.items()}  # fmt: skip
    picture = Picture(picture.figure, picture.alt, picture.title, data)
    return FigureGroup("Modality gap", statements.gap_change(*gaps), [picture], len(shown.labels))


def _errors(shown: Shown, seed: int) -> FigureGroup | None:
    if shown.frozen is None:
        return None
    zero_shot = (shown.frozen.images @ shown.frozen.texts.T).argmax(axis=1)
    answers, names = shown.probabilities.argmax(axis=1), shown.model.class_names
    method = shown.model.method.title
    accuracies = {
        name: [np.nan if c.accuracy is None else c.accuracy for c in per_class_accuracy(shown.labels, found, names)]
        for name, found in (("zero-shot", zero_shot), (method, answers))
    }
    pictures = [error_reversal(shown.labels, zero_shot, answers, ("zero-shot", method))]
    if any(np.isfinite(values).all() for values in zip(*accuracies.values(), strict=True)):
        pictures.append(per_class_comparison(accuracies, names))
    text = f"Errors of zero-shot on these images, and what {method} answers instead."
    return FigureGroup("Errors compared with zero-shot", text, pictures, len(shown.labels))


def _selection(shown: Shown, seed: int) -> FigureGroup | None:
    text = "Accuracy on held-out images by the settings that were tried in the fit, not on the images above."
    return FigureGroup("Choice of settings", text, selection_curves(shown.model.method))


def _training(shown: Shown, seed: int) -> FigureGroup | None:
    return FigureGroup("Training", "As recorded in the fit.", training_curves(shown.model.method))


def _pseudo_labels(shown: Shown, seed: int) -> FigureGroup | None:
    kept = getattr(shown.model.method, "pseudo_labels_", None)
    if kept is None:
        return None
    label_of = dict(zip(image_hashes(shown.items, shown.items.ids).tolist(), shown.labels.tolist(), strict=True))
    truth = np.array([label_of.get(image, UNLABELED) for image in kept["images"].tolist()])
    known = int((truth != UNLABELED).sum())
    if not known:
        return None
    text = (
        f"On {count(known, 'image')} of the fit that are among those given. Their labels were not used in the fit and "
        "only mark the pseudo-labels here."
    )
    return FigureGroup("Pseudo-labels", text, [pseudo_label_curve(kept["labels"].numpy(), truth)])


def _crops(shown: Shown, seed: int) -> FigureGroup | None:
    method, encoder = shown.model.method, shown.model.encoder
    if not isinstance(method, SelfTrained) or not isinstance(encoder, ClipEncoder):
        return None
    rows = shown.some[:: max(1, len(shown.some) // CROPPED)][:CROPPED]
    weights = sampled_crop_weights(method, shown.items.select(rows), encoder, seed=seed)
    text = (
        "Weights of random crops by their similarity to the whole image: by [CLS] features as they are, and by a "
        "softmax of projected features. The wider the density, the more the weights differ between crops."
    )
    return FigureGroup(
        "Crop weights", text, [crop_weight_density({name: w.numpy() for name, w in weights.items()})], len(shown.labels)
    )


def _lists(data: Any) -> Any:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in data.items()}
