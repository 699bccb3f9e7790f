"""Training hyper-parameters of tower methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from modalign.core.arrays import is_integer, is_number
from modalign.core.errors import InputError, hyperparameter, require_known
from modalign.core.renaming import former_attributes
from modalign.linalg.optimizers import half_cosine

Optimizer = Literal["sgd", "adamw"]
Rates = Literal["cosine by epoch", "cosine by step", "constant"]
Precision = Literal["float32", "bfloat16", "auto"]


@former_attributes(optimiser="optimizer")
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training hyper-parameters; the defaults are those of CoOp's code base (Dassl).

    Attributes
    ----------
    epochs : int
        Passes over the images.
    batch_size : int
        Images per optimizer step, over all processes and parts.
    learning_rate : float
        Peak learning rate.
    optimizer : {"sgd", "adamw"}, default="sgd"
        SGD with momentum 0.9 and decay in the gradient, or AdamW with decoupled decay and its usual moments.
    weight_decay : float, default=0.0005
        On every trainable parameter but those in ``undecayed``.
    undecayed : tuple of str, default=()
        Ends of names of parameters without decay, such as ``("bias",)``.
    schedule : {"cosine by epoch", "cosine by step", "constant"}, default="cosine by epoch"
        See :func:`learning_rate`.
    warmup : int, default=1
        By epoch: epochs with the constant ``warmup_rate`` (a run of this length hardly trains). By step: steps of
        linear warmup from zero.
    warmup_rate : float, default=1e-05
        Of the warm-up by epoch.
    final_rate : float, default=0.0
        Final learning rate of the cosine.
    accumulate : int, default=1
        Number of parts of a batch, computed sequentially to save memory; the gradient is that of the whole batch up to
        rounding.
    precision : {"float32", "bfloat16", "auto"}, default="float32"
        Of the forward pass; ``"bfloat16"`` is autocast, parameters and their updates stay in float32. ``"auto"``, the
        default of methods inside an encoder, is decided before the training, see
        :func:`~modalign.tune.training_precision.settled_precision`.
    clip : float or None, default=None
        Maximum norm of the gradient.
    drop_last : bool, default=False
        Drop the last incomplete batch of an epoch.
    gradient_checkpointing : bool, default=False
        Passed to the towers by the method.
    seed : int, default=0
        Seed of the order of the images, their augmentation, and random numbers of the loss.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer = "sgd"
    weight_decay: float = 5e-4
    undecayed: tuple[str, ...] = ()
    schedule: Rates = "cosine by epoch"
    warmup: int = 1
    warmup_rate: float = 1e-5
    final_rate: float = 0.0
    accumulate: int = 1
    precision: Precision = "float32"
    clip: float | None = None
    drop_last: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("warmup", 0), ("seed", 0)):
            value = getattr(self, name)
            _require(is_integer(value) and value >= least, f"{name} to be an integer of at least {least}", value)
        for name in ("learning_rate", "weight_decay", "warmup_rate", "final_rate"):
            value = getattr(self, name)
            _require(is_number(value) and value >= 0, f"{name} to be a finite number of at least 0", value)
        _require(self.clip is None or (is_number(self.clip) and self.clip > 0), "clip to be above 0 or None", self.clip)
        choices = (
            ("optimizer", ("sgd", "adamw")),
            ("schedule", ("cosine by epoch", "cosine by step", "constant")),
            ("precision", ("float32", "bfloat16", "auto")),
        )
        for name, known in choices:
            _require(getattr(self, name) in known, f"{name} to be one of {', '.join(known)}", getattr(self, name))
        object.__setattr__(self, "undecayed", tuple(self.undecayed))

    def steps_per_epoch(self, n: int) -> int:
        """Return the number of optimizer steps of an epoch with n images.

        Raises
        ------
        InputError
            There is none.
        """
        steps = n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)
        if not steps:
            advice = f"a batch of at most {n}" if n else "images to train on"
            raise InputError(
                f"Expected at least one batch of {self.batch_size} per epoch, got {n} images; choose {advice}."
            )
        return steps


def recipe_entries(training: Mapping[str, Any] | None, taken: Iterable[str] = ()) -> dict[str, Any]:
    """``training={…}`` of a method as entries of a :class:`Recipe`; American and British spelling are one name.

    Parameters
    ----------
    training : mapping or None
        Name → value, or None.
    taken : iterable of str, default=()
        Entries that the method has parameters of its own for.

    Raises
    ------
    UnknownNameError
        A name that is no entry; the message has the nearest one.
    """
    known = [entry.name for entry in fields(Recipe) if entry.name not in taken]
    advice = "It holds entries of a recipe such as 'precision' or 'accumulate'."
    return require_known(f"entry of {hyperparameter('training')}", training or {}, known, advice)


def _require(holds: bool, expected: str, got: Any) -> None:
    if not holds:
        raise InputError(f"Expected {expected}, got {got!r}.")


def learning_rate(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    r"""Return the learning rate as a function of the step, counted from 0.

    Cosine by epoch, as in Dassl: the constant ``warmup_rate`` in epochs :math:`e < w`, then a cosine with the length of
    all E epochs, so the last epoch is above ``final_rate``:

    .. math:: \eta(e) = \eta_{end} + \tfrac12 (\eta - \eta_{end}) \left(1 + \cos \pi \tfrac{e - w}{E}\right)

    Cosine by step: linear warmup :math:`\eta (s + 1)/w` over w steps, then a cosine over the remaining S − w steps,

    .. math:: \eta(s) = \eta_{end} + \tfrac12 (\eta - \eta_{end}) \left(1 + \cos \pi \tfrac{s - w}{S - w}\right)

    Parameters
    ----------
    recipe : Recipe
        Its schedule, rates, warm-up and epochs.
    steps_per_epoch : int
        Optimizer steps per epoch.
    """
    highest, lowest, warmup = recipe.learning_rate, recipe.final_rate, recipe.warmup

    def by_epoch(step: int) -> float:
        epoch = step // steps_per_epoch
        return recipe.warmup_rate if epoch < warmup else half_cosine(epoch - warmup, recipe.epochs, highest, lowest)

    def by_step(step: int) -> float:
        rest = max(1, recipe.epochs * steps_per_epoch - warmup)
        return highest * (step + 1) / warmup if step < warmup else half_cosine(step - warmup, rest, highest, lowest)

    return {"cosine by epoch": by_epoch, "cosine by step": by_step, "constant": lambda step: highest}[recipe.schedule]
