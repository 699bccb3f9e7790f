"""What the tests of self-training methods share: the start of a training, breaking one off, saving its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import modalign as ma
from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Learner, TowerMethod, Towers
from modalign.tune.crops import CropBatch, CropBatches


def begun(method: TowerMethod, digits, text, encoder) -> tuple[Towers, Learner, CropBatches]:
    """Towers, learner and batches of weak and strong views, when the first batch is due."""
    towers = Towers.open(encoder, text)
    learner = method._learner(towers, torch.Generator())
    data = CropBatches(digits, encoder, crops=0, augmentation=("random_resized_crop", "randaugment"))
    learner.begin(data)
    return towers, learner, data


def features(towers: Towers, batch: CropBatch) -> list[Tensor]:
    """(B, d) unit vectors of the weak and of the strong views."""
    return [unit(towers.vision(view).pooled[0]) for view in batch.views]


def broken_off_and_resumed(
    fit: Callable[..., TowerMethod], learner: type[Learner], step: int, checkpoint: Path
) -> tuple[TowerMethod, int]:
    """A whole training, after a check that one broken off in ``step`` ends the same; the epoch that was broken off."""
    whole = fit()
    own, epochs = learner.loss, []

    def dying(self, batch):
        epochs.append(batch.epoch)
        if len(epochs) == step:
            raise KeyboardInterrupt
        return own(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "loss", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(checkpoint=checkpoint)
    resumed = fit(checkpoint=checkpoint)
    assert all(torch.equal(resumed.tensors_[name], value) for name, value in whole.tensors_.items())
    assert resumed.diagnosis_ == whole.diagnosis_
    return whole, epochs[-1]


def saved_and_loaded(model: ma.Classifier, folder: Path, digits, encoder) -> ma.Classifier:
    """``model`` from its own file, after a check that it predicts the same."""
    again = ma.load(model.save(folder), encoder=encoder)
    np.testing.assert_array_equal(again.predict(digits).probabilities, model.predict(digits).probabilities)
    return again
