"""Laws of methods inside an encoder, checked on twenty handwritten digits with the small CLIP of the package."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from modalign.core.errors import InputError
from modalign.core.features import ClassText
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.loading import load_encoder
from modalign.methods.contract.tower import TowerMethod
from modalign.model.persistence.state import decode_parameters, encode_parameters, encode_state, restore_state
from modalign.testing.answers import _leaves, class_attributes_match_the_behavior
from modalign.testing.expectations import expect, expect_close, expect_equal, expect_refusal


class TowerSubject:
    """A method inside an encoder to be checked by the laws.

    Parameters
    ----------
    method : TowerMethod
        Not fitted; it is not changed. Use hyper-parameters with few steps.
    tolerance : float, default=1e-4
        Largest difference of scores that are equal up to rounding, relative to the largest score.
    """

    def __init__(self, method: TowerMethod, tolerance: float = 1e-4) -> None:
        self.method, self.tolerance, self.name = method, tolerance, type(method).__name__

    @cached_property
    def encoder(self) -> ClipEncoder:
        """The small CLIP of the package."""
        encoder = load_encoder("tiny", cache=False, dtype="float32", device="cpu")
        assert isinstance(encoder, ClipEncoder)
        return encoder

    @cached_property
    def items(self) -> Items:
        """Two images of each of ten digits."""
        digits = load_digits()
        return digits.select(np.concatenate([np.flatnonzero(digits.labels == c)[:2] for c in range(10)]))

    @cached_property
    def text(self) -> ClassText:
        """The prompts of the digits."""
        names = self.items.class_names
        return self.encoder.embed_texts(sentences(names, DIGIT_TEMPLATES), class_names=names)

    @cached_property
    def fitted(self) -> TowerMethod:
        """The method fitted once for all laws, which do not change it."""
        method: TowerMethod = clone(self.method)
        return method.fit(self.items, text=self.text, encoder=self.encoder)

    @cached_property
    def second_fit(self) -> tuple[TowerMethod, list[str]]:
        """The method fitted once more, and the names of other attributes that changed."""
        method: TowerMethod = clone(self.method)
        weights = {name: value.clone() for name, value in self.encoder.model.state_dict().items()}
        labels, parameters = self.items.labels.copy(), deepcopy(method.get_params())
        method.fit(self.items, text=self.text, encoder=self.encoder)
        after = self.encoder.model.state_dict()
        changed = [f"'{name}' of the encoder" for name, value in weights.items() if not torch.equal(after[name], value)]
        changed += ["the labels of the images"] * (not np.array_equal(self.items.labels, labels))
        changed += [f"the hyper-parameter '{name}'" for name, v in method.get_params().items() if v != parameters[name]]
        return method, changed

    def scores(self, method: TowerMethod, items: Items | None = None, **settings: Any) -> np.ndarray:
        """(n, 10) scores of the images."""
        return method.score_images(self.items if items is None else items, self.encoder, **settings).logits


def scores_are_finite_and_one_per_image_and_class(subject: TowerSubject) -> None:
    """Every image has a finite score for every class, in the order of the class names."""
    scores = subject.scores(subject.fitted)
    expect(scores.shape == (20, 10), f"Expected scores of shape (20, 10), got {scores.shape}.")
    expect(np.isfinite(scores).all(), "Some scores are not finite.")
    names = tuple(subject.fitted.class_names_)
    expect(names == subject.items.class_names, "The classes are not in the order of the images' class names.")


def tower_scores_do_not_depend_on_the_batch(subject: TowerSubject) -> None:
    """The scores of an image do not depend on the images that are scored with it."""
    together = subject.scores(subject.fitted)
    alone = subject.scores(subject.fitted, subject.items.select([7, 3]), batch_size=1)
    limit = subject.tolerance * float(np.abs(together).max())
    expect_close(alone, together[[7, 3]], limit, "The scores of an image depend on its batch.")


def one_seed_gives_one_result(subject: TowerSubject) -> None:
    """Two fits to the same images with one seed learn equal tensors."""
    again = subject.second_fit[0]
    expect(set(again.tensors_) == set(subject.fitted.tensors_), "Two fits learn tensors of different names.")
    for name, tensor in subject.fitted.tensors_.items():
        expect(torch.equal(tensor, again.tensors_[name]), f"Two fits with one seed differ in '{name}'.")


def learned_tower_parameters_can_be_saved(subject: TowerSubject) -> None:
    """``tensors_``, hyper-parameters and other attributes that end in an underscore are all that prediction needs."""
    again = clone(subject.method).set_params(**decode_parameters(encode_parameters(subject.fitted)))
    restore_state(again, *encode_state(subject.fitted))
    expect_equal(
        subject.scores(again), subject.scores(subject.fitted), "Saved and loaded, the method has other scores."
    )


def the_encoder_is_not_modified(subject: TowerSubject) -> None:
    """``fit`` changes neither the weights of the encoder, nor hyper-parameters, nor the labels of the images."""
    _, changed = subject.second_fit
    expect(not changed, f"fit changes {', '.join(changed)}.")


def the_diagnosis_is_finite_numbers_and_names(subject: TowerSubject) -> None:
    """``diagnosis_`` is a dict of text, finite numbers and lists of one value or None per epoch, and not empty."""
    entries = list(_leaves(subject.fitted.diagnosis_))
    found = [leaf for entry in entries for leaf in (entry if isinstance(entry, list) else [entry]) if leaf is not None]
    expect(found, "The diagnosis is empty.")
    for leaf in found:
        expect(isinstance(leaf, (str, bool, int, float)), f"The diagnosis holds {leaf!r}, neither number nor text.")
        expect(isinstance(leaf, str) or np.isfinite(leaf), "The diagnosis holds a number that is not finite.")


def text_of_other_classes_is_refused(subject: TowerSubject) -> None:
    """Every class of the images needs text; a class without is named before any work."""
    text = subject.text.select(subject.items.class_names[:9])
    method = clone(subject.method)
    expect_refusal(
        InputError,
        "nine",
        lambda: method.fit(subject.items, text=text, encoder=subject.encoder),
        "images of a class without text",
    )


TowerLaw = Callable[[TowerSubject], None]

TOWER_LAWS: dict[str, TowerLaw] = {
    law.__name__: law
    for law in (
        class_attributes_match_the_behavior,
        scores_are_finite_and_one_per_image_and_class,
        tower_scores_do_not_depend_on_the_batch,
        one_seed_gives_one_result,
        learned_tower_parameters_can_be_saved,
        the_encoder_is_not_modified,
        the_diagnosis_is_finite_numbers_and_names,
        text_of_other_classes_is_refused,
    )
}
"""Name → law of methods inside an encoder."""
