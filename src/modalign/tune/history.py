"""Training history per epoch, which can be saved and restored exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modalign.core.errors import InputError


@dataclass(frozen=True)
class Epoch:
    """Statistics of one epoch.

    Attributes
    ----------
    epoch : int
        Counted from 0.
    loss : float
        Mean loss over the images, before the step of each batch.
    rate : float
        Learning rate of the last step.
    seconds : float
        Wall-clock time, including that before an interruption.
    terms : dict of str to float
        Means of the named terms of the loss, if any.
    notes : dict of str to float
        Return values of ``on_epoch``.
    """

    epoch: int
    loss: float
    rate: float
    seconds: float
    terms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """History of a training.

    Attributes
    ----------
    epochs : tuple of Epoch
        Epochs in order, including those before an interruption.
    steps : int
        Total number of optimizer steps.
    parameters : int
        Number of trained parameters.
    resumed_from : int, default=0
        Steps done before this call; 0 for a new run.
    """

    epochs: tuple[Epoch, ...]
    steps: int
    parameters: int
    resumed_from: int = 0

    @property
    def losses(self) -> list[float]:
        """The mean loss of every epoch."""
        return [epoch.loss for epoch in self.epochs]

    @property
    def rates(self) -> list[float]:
        """The last learning rate of every epoch."""
        return [epoch.rate for epoch in self.epochs]

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


class Tally:
    """Running statistics of the current epoch, saved in checkpoints."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.sums: dict[str, float] = {}
        self.images = 0
        self.seconds = 0.0

    def add(self, values: Mapping[str, float], images: int, seconds: float) -> None:
        """Add the means of one step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * images
        self.images += images
        self.seconds += seconds

    def close(self, epoch: int, rate: float) -> Epoch:
        """Return the completed epoch and reset."""
        means = {name: total / self.images for name, total in self.sums.items()}
        found = Epoch(epoch, means.pop("loss"), rate, self.seconds, means)
        self.sums, self.images, self.seconds = {}, 0, 0.0
        return found

    def state(self) -> dict[str, Any]:
        """For the card of a checkpoint."""
        epochs = [asdict(epoch) for epoch in self.epochs]
        return {"epochs": epochs, "sums": self.sums, "images": self.images, "seconds": self.seconds}

    @classmethod
    def of(cls, state: Mapping[str, Any], epochs: int) -> Tally:
        """From the card of a checkpoint.

        Raises
        ------
        InputError
            It is not the state of a tally after this number of whole epochs.
        """
        tally = cls()
        try:
            tally.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
            tally.sums = {str(name): float(value) for name, value in state["sums"].items()}
            tally.images, tally.seconds = int(state["images"]), float(state["seconds"])
            sound = [epoch.epoch for epoch in tally.epochs] == list(range(epochs)) and tally.images >= 0
            sound &= all(math.isfinite(number) for epoch in tally.epochs for number in (epoch.loss, epoch.seconds))
        except (AttributeError, KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise InputError(f"Expected a checkpoint after {epochs} epochs, its progress differs.")
        return tally
