"""ALIGN's two-level transport compared with a loop over the pairs of image and class: ``python -m bench.speed align``.

The loop is the straightforward form, as in published code: one pair at a time, its M·N token problems solved together
by textbook sweeps with a check of the error after each, plans held constant in the backward pass, then one call for all
prompt-level problems. Both sides run in turns in one process on the same features, forward and backward; the median of
the processor seconds is compared after outputs and gradients. The size is the paper's: B = 4 images, K = 50 classes,
M = N = 4, 198 patches, 8 to 12 words.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import speed
from modalign.methods.align.align_transport import two_level_transport

B, K, M, N, J, L, D = 4, 50, 4, 4, 198, 12, 512
EPSILON, SWEEPS = 0.1, 100
TOLERANCE = 1e-4
REQUIRED = 5


def measure(full: bool) -> list[dict[str, Any]]:
    """One row per stopping rule; ``full`` runs the loop five times instead of twice."""
    slow = 5 if full else 2
    inputs, mask = problem()
    rows = [
        compare(f"{SWEEPS} sweeps", inputs, mask, 0.0, REQUIRED, slow),
        compare(f"marginal error ≤ {TOLERANCE:g}", inputs, mask, TOLERANCE, 0, 5),
    ]
    return [*rows, parts(inputs, mask)]


def problem() -> tuple[list[Tensor], Tensor]:
    """Global and local features around common directions, as a trained encoder's are, and the words there are."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(20, D, generator=generator), dim=1)

    def around(*shape: int) -> Tensor:
        chosen = centers[torch.randint(20, shape, generator=generator)]
        noise = torch.randn(*shape, D, generator=generator) / D**0.5
        return F.normalize(chosen + noise, dim=-1).requires_grad_()

    mask = torch.arange(L) < torch.randint(8, L + 1, (K, 1, 1), generator=generator).expand(K, N, 1)
    return [around(B, M), around(K, N), around(B, M, J), around(K, N, L)], mask


def loop(inputs: list[Tensor], mask: Tensor, tolerance: float) -> Tensor:
    """Distances (B, K), a pair at a time."""
    z, h, patches, words = (F.normalize(part, dim=-1) for part in inputs)
    lengths = mask[:, 0].sum(dim=1).tolist()
    costs = []
    for image in range(B):
        for label in range(K):
            own = words[label, :, : lengths[label]]
            cost = (1 - torch.einsum("mjd,nld->mnjl", patches[image], own)).flatten(0, 1)
            plan = textbook(cost.detach(), tolerance)
            tokens = (plan * cost).sum(dim=(1, 2)).view(M, N)
            costs.append(1 - z[image] @ h[label].T + tokens)
    costs = torch.stack(costs)
    return (textbook(costs.detach(), tolerance) * costs).sum(dim=(1, 2)).view(B, K)


def textbook(cost: Tensor, tolerance: float) -> Tensor:
    """Plans of p problems (p, n, m): sweeps until every marginal error is small enough, or all of them."""
    kernel = torch.exp(-cost / EPSILON)
    p, n, m = cost.shape
    a, b = cost.new_full((p, n), 1 / n), cost.new_full((p, m), 1 / m)
    u, v = torch.ones_like(a), torch.ones_like(b)
    for _ in range(SWEEPS):
        u = a / torch.matmul(kernel, v[:, :, None])[:, :, 0]
        v = b / torch.matmul(kernel.permute(0, 2, 1).contiguous(), u[:, :, None])[:, :, 0]
        rows = u * torch.matmul(kernel, v[:, :, None])[:, :, 0] if tolerance else None
        if rows is not None and (rows - a).abs().sum(dim=1).max().item() <= tolerance:
            break
    return u[:, :, None] * kernel * v[:, None, :]


def compare(
    rule: str, inputs: list[Tensor], mask: Tensor, tolerance: float, required: float, slow: int
) -> dict[str, Any]:
    """Both sides in turns, forward and backward."""

    def plain() -> Tensor:
        return loop(inputs, mask, tolerance)

    def ours() -> Tensor:
        return 1 - two_level_transport(*inputs, mask, tolerance=tolerance, max_sweeps=SWEEPS).scores

    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(5):
        if turn < slow:
            second, *expected = seconds(plain, inputs)
            times[0].append(second)
        second, *got = seconds(ours, inputs)
        times[1].append(second)
    reference, own = median(times[0]), median(times[1])
    error = two_level_transport(*inputs, mask, tolerance=tolerance, max_sweeps=SWEEPS).tokens.marginal_error.amax()
    return {
        "what": f"B={B} K={K} M=N={M} {J} × 8…{L}, ε = {EPSILON}, {rule}, forward and backward",
        "plain_seconds": reference,
        "seconds": own,
        "faster": reference / own,
        "required": required,
        "difference": max(relative(g, e) for g, e in zip(got, expected, strict=True)),
        "marginal_error": error.item(),
    }


def parts(inputs: list[Tensor], mask: Tensor) -> dict[str, Any]:
    """The part that no solver can save: the three products of patches and words."""
    patches = inputs[2].detach().flatten(0, 2)
    words = inputs[3].detach()[mask]
    plans = torch.empty(len(words), len(patches))

    def products() -> None:
        torch.mm(words, patches.T, out=plans)
        plans @ patches
        plans.T @ words

    spent = []
    for _ in range(5):
        started = time.process_time()
        products()
        spent.append(time.process_time() - started)
    return {"what": "the three products of patches and words alone", "seconds": median(spent)}


def seconds(function: Callable[[], Tensor], inputs: list[Tensor]) -> tuple[float, Tensor, ...]:
    """Processor seconds of distances and gradients of a cross-entropy, and both."""
    started = time.process_time()
    distances = function()
    loss = F.cross_entropy(100 * (1 - distances), torch.arange(B))
    gradients = torch.autograd.grad(loss, inputs)
    return time.process_time() - started, distances.detach(), *gradients


def relative(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((got - expected).abs().max() / expected.abs().max())


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a row is slower than required or computes something else."""
    return any(row["faster"] < row["required"] or not row["difference"] < 1e-3 for row in rows if "faster" in row)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("ALIGN's two-level transport beside the loop over pairs, processor seconds (loop, ours)")
    for row in rows:
        if "faster" not in row:
            print(f"  {row['what']}: {row['seconds']:.3f}")
            continue
        required = f" (required {row['required']:g})" if row["required"] else ""
        print(
            f"  {row['what']}\n    {row['plain_seconds']:8.3f} {row['seconds']:7.3f}  {row['faster']:6.1f} ×{required}"
            f"  difference {row['difference']:.0e}, our marginal error {row['marginal_error']:.0e}"
        )


if __name__ == "__main__":
    sys.exit(speed.main([*sys.argv[1:], "align"]))
