"""One answer of a classifier, explained as far as its method can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.name_matching import match_names
from modalign.data.copies import content_hash
from modalign.data.items import Items, load_items
from modalign.encoders.base import Encoder
from modalign.model.explaining.deletion import DeletionTest
from modalign.model.explaining.explanation import Explanation
from modalign.model.explaining.patch_scores import PatchScorer, prepared_images
from modalign.model.explaining.reasons import nearest_images, shares_of_sentences
from modalign.model.scoring import embed_images

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier

OTHERS = 2  # classes with a map in addition to the explained one


def untested() -> str:
    """Sentence for an explanation without a deletion test."""
    return (
        "No patch map is shown without a deletion test; give images that the model was not fitted on as "
        f"{argument('check')}."
    )


def explained(model: Classifier, image: Any, *, label: str | None, check: Any, labeled: Any) -> Explanation:
    """See :meth:`Classifier.explain <modalign.Classifier.explain>`."""
    items = load_items(image)
    if len(items) != 1:
        raise InputError(f"Expected one image to explain, got {len(items)}; give them one by one.")
    known = None if label is None else match_names([str(label)], model.class_names).get(str(label))
    if label is not None and known is None:
        raise UnknownNameError("class", str(label), model.class_names)
    test = check if check is None or isinstance(check, DeletionTest) else model.deletion_test(check)
    predictions = model.predict(items)
    if not len(predictions):
        raise InputError(f"Expected an image that can be decoded, got '{items.ids[0]}'.")
    probabilities = predictions.probabilities[0]
    k = int(probabilities.argmax()) if known is None else model.class_names.index(known)
    maps = _maps(model, items, k, probabilities) if test is not None and test.passed else {}
    x = embed_images(model.encoder, items).vectors[0]
    own = content_hash(items, 0)
    neighbors = nearest_images(model, x, labeled, own, of=None if label is None else k)
    sentences = shares_of_sentences(model, x)
    notes = [untested() if test is None else test.sentence]
    if own in model.fitted_on:
        notes.append("The model was fitted on this image or validated with it.")
    if label is not None and (neighbors or labeled is not None):
        which = "The nearest labeled images are those" if neighbors else "No labeled image is"
        notes.append(f"{which} of the class '{model.class_names[k]}'.")
    elif not neighbors:
        notes.append(f"The method keeps no labeled images; give them as {argument('labeled')} to list the nearest.")
    if not sentences:
        notes.append("The method compares the image with no sentence, or its sentences are not kept.")
    return Explanation(
        id=items.ids[0],
        class_name=model.class_names[k],
        probability=float(probabilities[k]),
        top=predictions[0].top,
        image=_picture(model, items),
        maps=maps,
        test=test,
        neighbors=neighbors,
        sentences=sentences,
        plans=model.method.explain(items, model.encoder, k) if maps and hasattr(model.method, "explain") else None,
        notes=tuple(notes),
        model=f"{type(model.method).__name__} on {model.encoder.spec.name}",
    )


def _maps(model: Classifier, items: Items, k: int, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """(rows, columns) probability of a class for each patch by itself: the class k and the most probable others."""
    assert isinstance(model.encoder, Encoder)
    found = np.exp(PatchScorer(model).of_patches(prepared_images(items, model.encoder))[0])
    others = [j for j in np.argsort(-probabilities, kind="stable").tolist() if j != k][:OTHERS]
    return {model.class_names[j]: found[j] for j in (k, *others)}


def _picture(model: Classifier, items: Items) -> np.ndarray:
    """The preprocessed image; the original where there are several encoders, or one for images of any shape."""
    encoder = model.encoder
    if isinstance(encoder, Encoder) and encoder.preprocessing.resize != "patches":
        return prepared_images(items, encoder)[0]
    picture = items.open(0).convert("RGB")
    picture.thumbnail((448, 448))
    return np.asarray(picture)
