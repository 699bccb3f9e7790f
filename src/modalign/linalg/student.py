"""Quantiles of Student's t distribution."""

from __future__ import annotations


def student_quantile(probability: float, degrees: float) -> float:
    """Return the t with P(T ≤ t) = ``probability`` for ``degrees`` > 0 degrees of freedom.

    SciPy computes it; it is imported in the call, because predictions come without intervals.
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
