"""Steps of a training: which images each takes, its gradient, and the update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from modalign.core.errors import InputError
from modalign.core.randomness import epoch_order, seed_of
from modalign.tune.history import Tally
from modalign.tune.processes import Processes
from modalign.tune.recipe import Recipe

Loss = Tensor | Mapping[str, Tensor]


TRAIN_MILDER = "lower the learning rate or the weights of the loss terms"


class StepPlan:
    """Which images make up which step, in which parts."""

    def __init__(self, n: int, recipe: Recipe, per_epoch: int, group: Processes) -> None:
        self._recipe, self._per_epoch, self._group = recipe, per_epoch, group
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(n, recipe.seed, epoch))

    def images(self, step: int) -> Tensor:
        """The indices (≤ batch_size,) of all processes together."""
        epoch, place = divmod(step, self._per_epoch)
        size = self._recipe.batch_size
        return self._order(epoch)[place * size : (place + 1) * size]

    def parts_of(self, step: int) -> list[Tensor]:
        """What this process computes, in at most ``accumulate`` parts of nearly the same size."""
        parts = self._group.share(self.images(step)).tensor_split(self._recipe.accumulate)
        return [part for part in parts if len(part)]

    def parts(self, steps: Iterable[int]) -> Iterator[tuple[Tensor, int]]:
        """(indices, epoch) of every part of every step."""
        return ((part, step // self._per_epoch) for step in steps for part in self.parts_of(step))


class Stepper:
    """Forward, backward and update of one step after the other."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        optimizer: Optimizer,
        loss_of_batch: Callable[[Any], Loss],
        recipe: Recipe,
        group: Processes,
        tally: Tally,
    ) -> None:
        self._parameters, self._optimizer, self._loss_of_batch = parameters, optimizer, loss_of_batch
        self._recipe, self._group, self._tally = recipe, group, tally

    def step(self, number: int, plan: StepPlan, fetched: Iterator[Any], rate: float) -> None:
        began = time.perf_counter()
        torch.manual_seed(seed_of("step", self._recipe.seed, number, self._group.rank))
        images, parts = len(plan.images(number)), plan.parts_of(number)
        self._optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(self._tally.sums, 0.0)  # without images in this batch, with the names of earlier batches
        for part in parts:
            for name, value in self._differentiate(next(fetched), len(part) / images).items():
                sums[name] = sums.get(name, 0.0) + value
        names = sorted(sums)
        summed = torch.tensor([sums[name] for name in names], dtype=torch.float64)
        values = dict(zip(names, self._group.sum_gradients(self._parameters, summed).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"Expected a finite loss, it is {values['loss']} at step {number + 1} with a learning rate of "
                f"{rate:.3g}; lower the learning rate, clip the gradients, or compute in float32."
            )
        if self._recipe.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._tally.add(values, images, time.perf_counter() - began)

    def require_finite(self, number: int, rate: float) -> None:
        """Raise unless all trained parameters are finite: a finite loss can have gradients that are not."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters):
            raise InputError(
                f"Expected finite parameters, got NaN or infinity after step {number + 1} with a learning rate of "
                f"{rate:.3g}; {TRAIN_MILDER}."
            )

    def _differentiate(self, batch: Any, weight: float) -> dict[str, float]:
        half = self._recipe.precision == "bfloat16"
        return differentiate(self._loss_of_batch, batch, self._parameters[0].device, half=half, weight=weight)


def differentiate(
    loss_of_batch: Callable[[Any], Loss], batch: Any, device: torch.device, *, half: bool, weight: float = 1.0
) -> dict[str, float]:
    """Add weight · ∇loss of a batch to the gradients, under autocast to bfloat16 if ``half``; the weighted numbers.

    Raises
    ------
    InputError
        The loss is not one number that depends on trained parameters.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        found = loss_of_batch(batch)
    terms = found if isinstance(found, Mapping) else {"loss": found}
    loss = terms.get("loss")
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise InputError(
            "Expected the loss to be one number that depends on the trained parameters, got "
            f"{'none' if loss is None else type(loss).__name__}"
            f"{f' {tuple(loss.shape)}' if isinstance(loss, Tensor) else ''}; return its mean over the images."
        )
    (loss.squeeze() * weight).backward()
    return {name: float(torch.as_tensor(value).detach()) * weight for name, value in terms.items()}
