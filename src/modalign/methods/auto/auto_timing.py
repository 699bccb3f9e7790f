"""Estimates of the time of a candidate, so that none is started that cannot end before the deadline."""

from __future__ import annotations

from dataclasses import dataclass

from modalign.methods.contract.sharing import clock

COSTS = {  # processor seconds at most of a fit and five folds, 16 images of each of 100 classes, 512 numbers
    "anchored_gaussian": 1.5, "gda": 0.8, "tip_adapter": 0.2, "linear_probe": 4.0, "cmm": 8.0, "clap": 8.0, "lfa": 12.0,
    "tip_adapter_f": 8.0, "lp_plus_plus": 10.0, "cross_modal_probe": 30.0,
}  # fmt: skip
SIZE = 1600 * 100 * 512  # images × classes × numbers that these were measured with


@dataclass
class Timing:
    """A deadline, and estimates of the speed of this machine on this problem.

    The expected time of a candidate is its measured time in :data:`COSTS`, times the relative size of the problem if it
    is larger, times the largest factor by which a candidate has exceeded its estimate so far. A candidate without a
    known cost is expected to take as long as the longest so far.

    Attributes
    ----------
    deadline : float
        By the :func:`~modalign.methods.contract.sharing.clock`.
    size : float
        Images × classes × numbers.
    """

    deadline: float
    size: float
    slowness: float = 1.0
    longest: float = 0.0

    def has_time_for(self, name: str) -> bool:
        """Whether a candidate that is started now is expected to end before the deadline."""
        return clock() + self._expected(name) <= self.deadline

    def took(self, name: str, seconds: float) -> None:
        """Update the estimates after a candidate, finished or dropped."""
        self.longest = max(self.longest, seconds)
        if name in COSTS:
            self.slowness = max(self.slowness, self.slowness * seconds / self._expected(name))

    def _expected(self, name: str) -> float:
        return COSTS[name] * max(1.0, self.size / SIZE) * self.slowness if name in COSTS else self.longest
