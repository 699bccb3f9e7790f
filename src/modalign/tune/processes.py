"""Data-parallel training: each process computes its share of every batch, and all take the same step.

The processes are started by a launcher (``torchrun``, ``accelerate launch``, a cluster), which sets the environment
variables WORLD_SIZE and RANK or initializes ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from modalign.core.child_processes import launched
from modalign.core.errors import InputError, ModalignError


@dataclass(frozen=True)
class Processes:
    """Number of processes and rank of this process."""

    count: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints and shows the progress bar."""
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """This process's part of a batch; the parts differ by at most one image and may be empty."""
        return indices.tensor_split(self.count)[self.rank]

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Replace every gradient by its sum over the processes, and return that of ``numbers``, in one reduction.

        A parameter keeps no gradient exactly if it has none anywhere, as in a single process. Cost: one message of
        4 bytes per parameter.

        Parameters
        ----------
        parameters : sequence of Tensor
            p tensors of one device and type.
        numbers : Tensor of shape (k,)
            Further values to sum, float64; sent in the type of the parameters, in two halves.
        """
        if self.count == 1:
            return numbers
        like = parameters[0]
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        high = numbers.to(like.dtype)
        rest = (numbers - high.double()).to(like.dtype)  # so that sums in float32 keep the digits of a report
        extra = torch.cat((present.to(like.dtype), high.cpu(), rest.cpu())).to(like.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in gradients] + [extra])
        with _others():
            dist.all_reduce(flat)
        *summed, extra = flat.split([p.numel() for p in parameters] + [len(extra)])
        present, high, rest = extra.cpu().split([len(parameters), len(numbers), len(numbers)])
        for parameter, gradient, anywhere in zip(parameters, summed, present.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if anywhere else None
        return high.double() + rest.double()

    def of_first(self, holds: bool) -> bool:
        """The value of the first process, in every process."""
        if self.count == 1:
            return holds
        decision: list[bool] = [holds]
        with _others():
            dist.broadcast_object_list(decision, src=0)
        return decision[0]

    @torch.no_grad()
    def agree(self, tensors: Sequence[Tensor], position: int) -> None:
        """Start from the values of the first process everywhere, all at the same step.

        Raises
        ------
        InputError
            The processes are at different steps.
        """
        if self.count == 1:
            return
        device = tensors[0].device
        positions = torch.tensor([position, -position], device=device)
        with _others():
            dist.all_reduce(positions, op=dist.ReduceOp.MAX)
        if positions[0] != -positions[1]:
            raise InputError(
                f"Expected the same checkpoint in every process, got steps {-int(positions[1])} to "
                f"{int(positions[0])}; give a folder that all machines share."
            )
        with _others():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


@contextmanager
def _others() -> Iterator[None]:
    """Convert the network error of torch about a lost process to one sentence."""
    try:
        yield
    except RuntimeError as error:
        rank, count = launched()
        raise ModalignError(
            f"Process {rank} of {count} cannot continue: another one failed or was ended, see its message; start "
            "all of them again. With a checkpoint folder the training resumes."
        ) from error


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """The processes of this run; opens ``torch.distributed`` if a launcher started several, and closes it again."""
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_world_size(), dist.get_rank())
        return
    if launched()[1] == 1:
        yield Processes()
        return
    with _others():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_world_size(), dist.get_rank())
    finally:
        dist.destroy_process_group()
