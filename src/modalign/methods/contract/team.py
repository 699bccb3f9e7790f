"""Fitting of one model by several processes, each with a part of the images.

The processes exchange sums of tensors only, for example by ``torch.distributed`` or MPI. Every process ends with the
same model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype

Reduce = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes, which give tensors of one shape and call it equally often."""


@dataclass(frozen=True)
class Team:
    """The processes, and which of them this one is.

    Attributes
    ----------
    rank, count : int, default=0
        Number of this process and of all.
    reduce : callable or None, default=None
        Adds up a float64 tensor over the processes (float32 on devices without float64); bit for bit the same result
        everywhere. None for one process.
    """

    rank: int = 0
    count: int = 1
    reduce: Reduce | None = None

    @classmethod
    def of_torch(cls) -> Team:
        """The processes of the open group of ``torch.distributed``."""
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError("Expected an open group of torch.distributed; call torch.distributed.init_process_group.")

        def reduce(tensor: Tensor) -> Tensor:
            dist.all_reduce(tensor)
            return tensor

        return cls(dist.get_rank(), dist.get_world_size(), reduce)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, added up in float64, in the type of ``tensor``."""
        if self.reduce is None:
            return tensor
        return self.reduce(tensor.detach().to(exact_dtype(tensor.device)).clone()).to(tensor.dtype)

    def all(self, condition: bool) -> bool:
        """Whether ``condition`` holds in every process."""
        return float(self.sum(torch.tensor(float(not condition)))) == 0

    def counts(self, n: int) -> list[int]:
        """Return ``n`` of every process."""
        own = torch.zeros(self.count, dtype=torch.float64)
        own[self.rank] = n
        return [int(value) for value in self.sum(own)]

    def seed(self, seed: int) -> int:
        """The ``seed`` of the first process."""
        halves = torch.tensor([seed >> 32, seed & 0xFFFFFFFF], dtype=torch.float64) * (self.rank == 0)
        high, low = self.sum(halves).tolist()
        return (int(high) << 32) + int(low)


_current: ContextVar[Team] = ContextVar("modalign_team", default=Team())  # noqa: B039  # it never changes


@contextmanager
def together(team: Team) -> Iterator[None]:
    """Inside, ``fit`` of a method with ``sums_over_processes`` learns from the images of all processes.

    Each process passes its own rows of ``X`` and of ``clip_features``, at least one; all other arguments are equal.
    Fitted attributes such as ``weight_`` are equal in all processes, and equal those of one process with all rows up to
    1e-5. Attributes per image, such as ``transduction_``, have the rows of the process.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.methods.contract.team import Team, together
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> with together(Team(rank=0, count=1, reduce=lambda tensor: tensor)):  # in each process, with its own rows
    ...     gpua = ma.GPUA(random_state=0).fit(Xt, text=T)
    """
    token = _current.set(team)
    try:
        yield
    finally:
        _current.reset(token)


def current_team() -> Team:
    """Return the current team; one process by default."""
    return _current.get()
