"""Training loop of all tower methods.

A step consists of the loss of the local batch, computed in parts, the sum of the gradients over the processes,
clipping, and SGD or AdamW. Everything else that a step depends on is a pure function of the recipe and the step number:
the order of the images, their augmentation, the learning rate, and random numbers of the loss (torch is reseeded at
every step). A killed run therefore continues exactly from its checkpoint, also within an epoch, and its result is
bitwise equal to that of an uninterrupted run on the same machine.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from modalign.core.errors import InputError
from modalign.core.progress import progress, track
from modalign.core.randomness import epoch_order, seed_of
from modalign.core.record import plain
from modalign.tune.history import Epoch, History, Tally
from modalign.tune.processes import Processes, processes
from modalign.tune.recipe import Recipe, learning_rate
from modalign.tune.threads import using_threads
from modalign.tune.training_state import TrainingState, trained_tensors

A = TypeVar("A")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)
Loss = Tensor | Mapping[str, Tensor]


class Data(Protocol[B_co]):
    """Protocol of a source of batches of n images, such as :class:`modalign.tune.batches.ImageBatches`.

    Attributes
    ----------
    fingerprint : str
        Hash of the data; checkpoints of other data are refused.
    """

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, epoch: int) -> B_co:
        """Return the input of the loss for images (b,) int64; a pure function, called in another thread."""


def train(
    module: nn.Module,
    loss_of_batch: Callable[[B], Loss],
    data: Data[B],
    recipe: Recipe,
    *,
    checkpoint: str | Path | None = None,
    every: int | None = None,
    run: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], Mapping[str, float] | None] | None = None,
    threads: int | None = None,
    description: str = "Training",
) -> History:
    r"""Minimize the mean of a loss over the images with respect to the trainable parameters of ``module``.

    With B images per step in k parts of :math:`b_i` images, on any number of processes, the gradient of the step is

    .. math:: g = \sum_i \tfrac{b_i}{B} \nabla L_i, \qquad \sum_i b_i = B,

    which is that of the whole batch if :math:`L_i` is a mean over the images of its part. A loss that couples the
    images of a batch (a batch mean inside a logarithm) is computed per part.

    With ``torchrun`` or ``accelerate launch`` (WORLD_SIZE above 1), every process calls this function with the same
    arguments, and all processes obtain the same parameters. Checkpoints contain the buffers of the first process.

    Parameters
    ----------
    module : nn.Module
        Module with the trained parameters in float32 (or float64) on one device; it may contain frozen parameters
        (``requires_grad=False``). Buffers are saved in checkpoints as well.
    loss_of_batch : callable
        Mean loss of the result of ``data.batch``, or a mapping with ``"loss"`` and further values for the history.
    data : Data
        The images.
    recipe : Recipe
        Hyper-parameters.
    checkpoint : str, Path or None, default=None
        Folder of the training state. A run continues from an existing state; a finished run is not repeated.
    every : int or None, default=None
        Number of steps between two checkpoints. Default: the end of every epoch only.
    run : mapping or None, default=None
        Further values that affect the result (hyper-parameters, fingerprint of the encoder, class names), to identify
        checkpoints of other runs.
    on_epoch : callable or None, default=None
        Called at the end of every epoch, in every process; its result is added to the history.
    threads : int or None, default=None
        Number of CPU threads, see :func:`~modalign.tune.threads.threads_for`; None leaves it unchanged.
    description : str, default="Training"
        Label of the progress bar.

    Raises
    ------
    InputError
        There are no trainable parameters or no images, the checkpoint is of another run, or the loss is not finite; the
        parameters are then those before that step.
    """
    parameters = _trainable(module)
    device = parameters[0].device
    for name, value in (("every", every), ("threads", threads)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"Expected {name} to be an integer of at least 1 or None, got {value!r}.")
    per_epoch = recipe.steps_per_epoch(len(data))
    store = None if checkpoint is None else TrainingState(checkpoint, _identity(recipe, data, run))
    optimizer = _optimizer(module, recipe)
    with processes(device) as group:
        if group.count > min(recipe.batch_size, len(data)):
            raise InputError(
                f"Expected at least one image a process in a batch, got {min(recipe.batch_size, len(data))} for "
                f"{group.count} processes; start fewer or raise batch_size."
            )
        loaded = None if store is None else store.load(module, optimizer)
        start, tally = (0, Tally()) if loaded is None else _resumed(*loaded, per_epoch, recipe.epochs)
        group.agree(list(trained_tensors(module).values()), start)
        stepper = _Stepper(parameters, optimizer, loss_of_batch, recipe, group, tally)
        plan = _Plan(len(data), recipe, per_epoch, group)
        rate_at, total = learning_rate(recipe, per_epoch), recipe.epochs * per_epoch
        fetched = _ahead(lambda job: data.batch(*job), plan.parts(range(start, total)))
        visible = nullcontext() if group.is_first else progress(False)
        with visible, closing(fetched), using_threads(threads), _own_randomness(device):
            for step in track(range(start, total), description):
                epoch = step // per_epoch
                stepper.step(step, plan, fetched, rate_at(step))
                ended = (step + 1) % per_epoch == 0
                if ended:
                    _close(tally, epoch, rate_at(step), on_epoch)
                if store is not None and group.is_first and (ended or (every and (step + 1) % every == 0)):
                    store.save(module, optimizer, step + 1, tally.state())
    return History(tuple(tally.epochs), total, sum(p.numel() for p in parameters), start)


def _resumed(step: int, progress: Mapping[str, Any], per_epoch: int, epochs: int) -> tuple[int, Tally]:
    """Steps done and the tally of a checkpoint, which says nothing that this training could not have come to."""
    if not 0 <= step <= epochs * per_epoch:
        raise InputError(f"Expected a checkpoint of at most {epochs * per_epoch} steps, it says {step}.")
    return step, Tally.of(progress, step // per_epoch)


def _close(
    tally: Tally, epoch: int, rate: float, on_epoch: Callable[[Epoch], Mapping[str, float] | None] | None
) -> None:
    found = tally.close(epoch, rate)
    if on_epoch is not None:
        found.notes.update({name: float(value) for name, value in (on_epoch(found) or {}).items()})
    tally.epochs.append(found)


class _Plan:
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


class _Stepper:
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

    def step(self, number: int, plan: _Plan, fetched: Iterator[Any], rate: float) -> None:
        began = time.perf_counter()
        torch.manual_seed(seed_of("step", self._recipe.seed, number, self._group.rank))
        images, parts = len(plan.images(number)), plan.parts_of(number)
        self._optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(self._tally.sums, 0.0)  # a process without an image here knows the names from before
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

    def _differentiate(self, batch: Any, weight: float) -> dict[str, float]:
        """Add weight · ∇loss to the gradients; the weighted numbers of the loss."""
        half = self._recipe.precision == "bfloat16"
        with torch.autocast(self._parameters[0].device.type, torch.bfloat16, enabled=half):
            found = self._loss_of_batch(batch)
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


def _identity(recipe: Recipe, data: Data[Any], run: Mapping[str, Any] | None) -> dict[str, Any]:
    """All that decides the result, as JSON knows it."""
    values = {"recipe": vars(recipe), "data": data.fingerprint, "images": len(data), "method": run or {}}
    try:
        return plain(values, strict=True)
    except TypeError as error:
        raise InputError(f"Expected run to hold numbers, text and lists of them, got {error}; leave it out.") from error


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise InputError(f"Expected parameters to train in {type(module).__name__}, it has none with requires_grad.")
    odd = {p.dtype for p in parameters} - {torch.float32, torch.float64}
    if odd:
        raise InputError(
            f"Expected trained parameters in float32, got {str(odd.pop()).removeprefix('torch.')}; "
            "cast them; a recipe with precision 'bfloat16' computes in half precision."
        )
    if len({(p.dtype, p.device) for p in parameters}) > 1:
        raise InputError("Expected all trained parameters in one type on one device, got several; move them together.")
    return parameters


def _optimizer(module: nn.Module, recipe: Recipe) -> Optimizer:
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (undecayed if name.endswith(recipe.undecayed) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=0.9)
    return AdamW(groups, lr=recipe.learning_rate)


def _own_randomness(device: torch.device) -> Any:
    """What the loop seeds is given back afterwards as it was."""
    return torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else [])


def _ahead(function: Callable[[A], B], jobs: Iterable[A], window: int = 2) -> Generator[B, None, None]:
    """``function`` of every job, in order, computed by one thread up to ``window`` jobs ahead of the consumer."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="modalign-batches") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
