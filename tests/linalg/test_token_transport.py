"""Transport between local vectors and prompts: against POT, at the control, and what is refused."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch

from modalign.core.errors import UnknownNameError
from modalign.linalg.similarity import cosine
from modalign.linalg.token_transport import prompt_transport


@pytest.fixture(scope="module")
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images with seven local vectors, two classes with four prompts."""
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 7, 6, dtype=torch.float64, generator=rng),
        torch.randn(2, 4, 6, dtype=torch.float64, generator=rng),
    )


def test_distances_are_those_of_pot(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    local, prompts = sets
    found = prompt_transport(local, prompts, epsilon=0.1, max_sweeps=10_000, tolerance=1e-12)
    for b, k in np.ndindex(3, 2):
        cost = (1 - cosine(local[b], prompts[k])).numpy()
        plan = ot.sinkhorn(np.full(7, 1 / 7), np.full(4, 1 / 4), cost, 0.1, numItermax=10_000, stopThr=1e-13)
        assert 1 - float(found.scores[b, k]) == pytest.approx((plan * cost).sum(), abs=1e-9)
        assert float(found.alignment.entropy[b, k]) == pytest.approx(-(plan * np.log(plan)).sum(), abs=1e-8)


def test_the_uniform_plan_is_the_mean_cost_and_other_plans_are_refused(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    local, prompts = sets
    found = prompt_transport(local, prompts, plan="uniform")
    expected = torch.stack([torch.stack([(1 - cosine(x, p)).mean() for p in prompts]) for x in local])
    torch.testing.assert_close(found.scores, 1 - expected)
    with pytest.raises(UnknownNameError, match="plan"):
        prompt_transport(local, prompts, plan="unifrom")
