"""Transport and Procrustes compared with reference implementations.

Both sides run in turns on the same data in the same process; the median of the processor seconds of each is compared,
after a check that they computed the same. ``python -m bench.speed linalg`` or ``python -m bench.speed_linalg``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import ot.batch
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import speed
from modalign.linalg.procrustes import procrustes
from modalign.linalg.sinkhorn import sinkhorn


def measure(full: bool) -> list[dict[str, Any]]:
    """One row per comparison; ``full`` repeats the slow sides five times."""
    torch.manual_seed(0)
    makers = (
        small_transport,
        small_transport_without_logarithms,
        tiny_epsilon,
        large_transport,
        procrustes_map,
    )
    with torch.no_grad():
        return [row for maker in makers for row in maker(full)]


def small_transport(full: bool) -> list[dict[str, Any]]:
    """3,200 problems of 49 patches × 4 prompts, 100 sweeps: one step of PLOT with 32 images and 100 classes."""
    cost = cosine_cost(3200, 49, 4)
    arrays = cost.double().numpy()

    def pot(data: Any) -> Tensor:
        return torch.as_tensor(ot.batch.solve_batch(data, reg=0.1, max_iter=100, tol=0).plan)

    ours = lambda: sinkhorn(cost, 0.1, max_sweeps=100, tolerance=0).coupling  # noqa: E731
    title = "3,200 transports 49 × 4, ε = 0.1, 100 sweeps: ot.batch on NumPy arrays"
    return [
        compare(title, lambda: pot(arrays), ours, required=25, slow=3 if full else 1),
        compare("  ot.batch on float64 tensors", lambda: pot(cost.double()), ours, required=0, slow=5),
        compare("  ot.batch on float32 tensors", lambda: pot(cost), ours, required=0, slow=5),
    ]


def small_transport_without_logarithms(full: bool) -> list[dict[str, Any]]:
    """The same against exponential forms, which overflow at small ε."""
    cost = cosine_cost(3200, 49, 4)

    def plain() -> Tensor:
        kernel = (-cost / 0.1).exp()
        v = torch.ones(3200, 4, 1)
        for _ in range(100):
            u = 1 / 49 / (kernel @ v)
            v = 1 / 4 / (kernel.mT @ u)
        return u * kernel * v.mT

    ours = lambda: sinkhorn(cost, 0.1, max_sweeps=100, tolerance=0).coupling  # noqa: E731
    other = lambda: ot.batch.solve_batch(cost, reg=0.1, max_iter=100, tol=0, method="sinkhorn").plan  # noqa: E731
    return [
        compare("  ot.batch without logarithms", other, ours, required=0, slow=5),
        compare("  plain torch without logarithms", plain, ours, required=0, slow=5),
    ]


def tiny_epsilon(full: bool) -> list[dict[str, Any]]:
    """Where the exponential form overflows: against logarithms in every sweep."""
    cost = cosine_cost(320, 198, 10)

    def plain() -> Tensor:
        f, g = torch.zeros(320, 198, 1, dtype=torch.float64), torch.zeros(320, 1, 10, dtype=torch.float64)
        for _ in range(100):
            f = -0.002 * ((g - cost) / 0.002).logsumexp(dim=2, keepdim=True)
            g = -0.002 * (((f - cost) / 0.002).logsumexp(dim=1, keepdim=True) - torch.tensor(198 / 10).log())
        return ((f + g - cost) / 0.002).exp() / 198

    ours = lambda: sinkhorn(cost, 0.002, max_sweeps=100, tolerance=0).coupling  # noqa: E731
    title = "320 transports 198 × 10, ε = 0.002, 100 sweeps: logarithms in torch"
    return [compare(title, plain, ours, required=0, slow=5 if full else 1)]


def large_transport(full: bool) -> list[dict[str, Any]]:
    """50,000 images to 100 classes: against rewriting the plan until rows and columns fit."""
    cost = cosine_cost(1, 50_000, 100)[0]

    def plain() -> Tensor:
        plan = ((cost.min() - cost) / 0.05).exp()
        for _ in range(100):
            plan = plan / plan.sum(dim=1, keepdim=True) / 50_000
            plan = plan / plan.sum(dim=0, keepdim=True) / 100
        return plan

    ours = lambda: sinkhorn(cost, 0.05, max_sweeps=100, tolerance=0).coupling  # noqa: E731
    title = "one transport 50,000 × 100, 100 sweeps: alternating normalization"
    row = compare(title, plain, ours, required=0, slow=3 if full else 1)
    kernel, v = torch.rand(50_000, 100), torch.rand(100)
    pair = median(seconds(lambda: kernel.T @ (kernel @ v))[0] for _ in range(20))
    return [row | {"torch_products_a_sweep": row["seconds"] / 100 / (pair / 2)}]


def procrustes_map(full: bool) -> list[dict[str, Any]]:
    """GPUA's map: 50,000 images of width 1,280 softly assigned to 100 texts of width 512."""
    Z, Y = F.normalize(torch.randn(50_000, 1280), dim=1), F.normalize(torch.randn(100, 512), dim=1)
    P = (20 * torch.rand(50_000, 100)).softmax(dim=1)
    centers = P.T @ Z  # the update of the centers has this already

    def plain() -> Tensor:
        U, S, Vh = torch.linalg.svd(Z.T @ (P @ Y), full_matrices=False)
        kept = 1e-5 * S[0] < S
        return U[:, kept] @ Vh[kept]

    def thin() -> Tensor:
        return procrustes(centers, Y)

    def thin_from_the_start() -> Tensor:
        return procrustes(P.T @ Z, Y)

    slow = 5 if full else 2
    return [
        compare("Procrustes 50,000 × 1,280 → 512, 100 classes: SVD of Zᵀ(PY)", plain, thin, required=5, slow=slow),
        compare("  with the product PᵀZ", plain, thin_from_the_start, required=0, slow=slow),
    ]


def compare(
    what: str, plain: Callable[[], Tensor], ours: Callable[[], Tensor], required: float, slow: int
) -> dict[str, Any]:
    """Run both in turns: ours five times, the plain form ``slow`` times."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(5):
        if turn < slow:
            second, expected = seconds(plain)
            times[0].append(second)
        second, got = seconds(ours)
        times[1].append(second)
    reference, own = median(times[0]), median(times[1])
    scale = expected.double().abs().max()
    return {
        "what": what,
        "plain_seconds": reference,
        "seconds": own,
        "faster": reference / own,
        "required": required,
        "difference": float((got.double() - expected.double()).abs().max() / scale),
    }


def seconds(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor seconds and the result."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


def cosine_cost(problems: int, n: int, m: int) -> Tensor:
    """One minus the cosines of random unit vectors of width 64."""
    X, Y = (F.normalize(torch.randn(problems, size, 64), dim=2) for size in (n, m))
    return 1 - X @ Y.mT


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a row is slower than required or computes something else."""
    return any(row["faster"] < row["required"] or not row["difference"] < 1e-3 for row in rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("Mathematics beside its plain form, processor seconds (plain, ours), largest relative difference")
    for row in rows:
        required = f" (required {row['required']:g})" if row["required"] else ""
        print(
            f"  {row['what']:<78} {row['plain_seconds']:8.3f} {row['seconds']:7.3f}  {row['faster']:6.1f} ×{required}"
            f"  {row['difference']:.0e}"
        )
        if "torch_products_a_sweep" in row:
            print(f"    a sweep costs as much as {row['torch_products_a_sweep']:.2f} products of torch with a vector")


if __name__ == "__main__":
    sys.exit(speed.main([*sys.argv[1:], "linalg"]))
