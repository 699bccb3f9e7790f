"""Training loop of all tower methods.

A step consists of the loss of the local batch, computed in parts, the sum of the gradients over the processes,
clipping, and SGD or AdamW. Everything else that a step depends on is a pure function of the recipe and the step number:
the order of the images, their augmentation, the learning rate, and random numbers of the loss (torch is reseeded at
every step). A killed run therefore continues exactly from its checkpoint, also within an epoch, and its result is
bitwise equal to that of an uninterrupted run on the same machine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError
from modalign.core.progress import progress, track
from modalign.core.record import plain
from modalign.tune.history import Epoch, History, Tally
from modalign.tune.processes import processes
from modalign.tune.recipe import Recipe, learning_rate
from modalign.tune.steps import Loss, Stepper, StepPlan
from modalign.tune.threads import using_threads
from modalign.tune.training_state import TrainingState, trained_tensors

A = TypeVar("A")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)
CHECKPOINT_SECONDS = 60.0


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
    seconds: float = CHECKPOINT_SECONDS,
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
        Number of steps between two checkpoints, besides those at the end of every epoch and after ``seconds``.
    seconds : float, default=60.0
        Time after which a checkpoint is written within an epoch.
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
        There are no trainable parameters or no images, the checkpoint is of another run, the loss is not finite (the
        parameters are then those before that step), or a parameter is not.
    """
    parameters = _trainable(module)
    device = parameters[0].device
    for name, value in (("every", every), ("threads", threads)):
        if value is not None and (not is_integer(value) or value < 1):
            raise InputError(f"Expected {name} to be an integer of at least 1 or None, got {value!r}.")
    if recipe.precision == "auto":
        raise InputError("Expected precision 'float32' or 'bfloat16', got 'auto', which is decided before a training.")
    per_epoch = recipe.steps_per_epoch(len(data))
    store = None if checkpoint is None else TrainingState(checkpoint, _identity(recipe, data, run))
    optimizer = _optimizer(module, recipe)
    with processes(device) as group:
        if group.count > min(recipe.batch_size, len(data)):
            raise InputError(
                f"Expected at least one image per process in a batch, got {min(recipe.batch_size, len(data))} for "
                f"{group.count} processes; start fewer or raise batch_size."
            )
        loaded = None if store is None else store.load(module, optimizer)
        start, tally = (0, Tally()) if loaded is None else _resumed(*loaded, per_epoch, recipe.epochs)
        group.agree(list(trained_tensors(module).values()), start)
        stepper = Stepper(parameters, optimizer, loss_of_batch, recipe, group, tally)
        plan = StepPlan(len(data), recipe, per_epoch, group)
        rate_at, total = learning_rate(recipe, per_epoch), recipe.epochs * per_epoch
        fetched = _ahead(lambda job: data.batch(*job), plan.parts(range(start, total)))
        visible = nullcontext() if group.is_first else progress(False)
        saved = time.monotonic()
        with visible, closing(fetched), using_threads(threads), _own_randomness(device):
            for step in track(range(start, total), description):
                epoch = step // per_epoch
                stepper.step(step, plan, fetched, rate_at(step))
                ended = (step + 1) % per_epoch == 0
                due = ended or (every and (step + 1) % every == 0) or time.monotonic() - saved >= seconds
                if due:
                    stepper.require_finite(step, rate_at(step))
                if ended:
                    _close(tally, epoch, rate_at(step), on_epoch)
                if store is not None and group.is_first and due:
                    store.save(module, optimizer, step + 1, tally.state())
                    saved = time.monotonic()
    return History(tuple(tally.epochs), total, sum(p.numel() for p in parameters), start)


def _resumed(step: int, progress: Mapping[str, Any], per_epoch: int, epochs: int) -> tuple[int, Tally]:
    """Return the steps done and the tally of a checkpoint, after checking that they fit this training."""
    if not 0 <= step <= epochs * per_epoch:
        raise InputError(f"Expected a checkpoint of at most {epochs * per_epoch} steps, got {step}.")
    return step, Tally.of(progress, step // per_epoch)


def _close(
    tally: Tally, epoch: int, rate: float, on_epoch: Callable[[Epoch], Mapping[str, float] | None] | None
) -> None:
    found = tally.close(epoch, rate)
    if on_epoch is not None:
        found.notes.update({name: float(value) for name, value in (on_epoch(found) or {}).items()})
    tally.epochs.append(found)


def _identity(recipe: Recipe, data: Data[Any], run: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all inputs of the result as JSON values."""
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
    """Context manager that restores the state of the global generators afterwards."""
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
