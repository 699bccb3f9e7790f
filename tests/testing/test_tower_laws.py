"""Laws of methods inside an encoder: kept by CoOp, and broken by methods that are made to break them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from modalign.core.errors import UnknownNameError
from modalign.methods.prompts.coop import CoOp
from modalign.testing import TOWER_LAWS, TowerSubject, check_method

QUICK = {"epochs": 1, "batch_size": 10, "n_ctx": 2, "augmentation": "center", "random_state": 1}


@dataclass(kw_only=True, eq=False, repr=False)
class Careless(CoOp):
    """CoOp that keeps what it needs in a private attribute, changes the encoder and draws without its seed."""

    def fit(self, items: Any, labels: Any = None, *, text: Any, encoder: Any, **rest: Any) -> Careless:
        super().fit(items, labels, text=text, encoder=encoder, **rest)
        with torch.no_grad():
            next(iter(encoder.model.parameters())).add_(1e-6)
        self.tensors_ = {name: value + 1e-4 * torch.rand(()) for name, value in self.tensors_.items()}
        self.diagnosis_["share"] = float("nan")
        self._shift = float(torch.rand(()))
        return self

    def score_images(self, items: Any, encoder: Any, *, batch_size: int | None = None) -> Any:
        scored = super().score_images(items, encoder, batch_size=batch_size)
        scored.logits[:] += self._shift + 0.1 * len(scored.ids)
        return scored


def test_a_sound_method_keeps_the_laws_and_other_names_of_laws_are_refused() -> None:
    check_method(CoOp(**QUICK))
    with pytest.raises(UnknownNameError, match="skip"):
        check_method(CoOp(**QUICK), skip=["learns_something"])


def test_every_law_that_is_broken_is_named() -> None:
    with pytest.raises(AssertionError, match=r"^Careless breaks \d of 8 laws of methods inside an encoder:") as error:
        check_method(Careless(**QUICK))
    for law in (
        "tower_scores_do_not_depend_on_the_batch",
        "one_seed_gives_one_result",
        "learned_tower_parameters_can_be_saved",
        "the_encoder_is_not_modified",
        "the_diagnosis_is_finite_numbers_and_names",
    ):
        assert f"- {law}: " in str(error.value)
        assert law in TOWER_LAWS


def test_scores_of_another_shape_are_found() -> None:
    subject = TowerSubject(CoOp(**QUICK))
    vars(subject).update(fitted=object(), scores=lambda method: np.zeros((20, 9)))
    with pytest.raises(AssertionError, match=r"shape \(20, 10\), got \(20, 9\)"):
        TOWER_LAWS["scores_are_finite_and_one_per_image_and_class"](subject)
