"""Estimates of the time of a candidate, so that none is started that cannot end before the deadline."""

from __future__ import annotations

from dataclasses import dataclass

from modalign.methods.contract.sharing import clock

COSTS = {  # python -m bench.auto_costs: processor seconds of a fit and five folds, with class text and without
    "anchored_gaussian": (0.8, 0.5), "gda": (0.5, 0.4), "tip_adapter": (0.1, 0.1), "linear_probe": (2.4, 1.9),
    "cmm": (5.8, 13.7), "clap": (5.5, 5.6), "lfa": (1.4, 24.6), "tip_adapter_f": (3.8, 4.0),
    "lp_plus_plus": (6.9, 7.2), "cross_modal_probe": (16.7, 15.0),
}  # fmt: skip
SIZE = 1600 * 100 * 512  # images × classes × numbers of their problem: 16 images of each of 100 classes


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
    with_text : bool, default=True
        Whether the classes have text.
    """

    deadline: float
    size: float
    with_text: bool = True
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
        if name not in COSTS:
            return self.longest
        return COSTS[name][0 if self.with_text else 1] * max(1.0, self.size / SIZE) * self.slowness
