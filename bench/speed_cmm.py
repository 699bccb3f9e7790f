"""CMM's published schedule compared with a plain torch loop of the same losses, and whole fits of the default.

The plain loop is the straightforward form: a module, ``torch.nn.functional.normalize``, autograd, ``torch.optim.AdamW``
with its defaults, a learning-rate scheduler. The two take turns in short stretches, so that other work on the machine
slows both alike, and processor time is compared. ``--full`` runs all 16,000 steps; otherwise the given number of steps
from the start of that schedule is measured, and every loss of them compared. Nothing is extrapolated.

Over a whole schedule single precision cannot decide whether two loops compute the same: where two classes are equally
near, rounding chooses the hardest one, and from there on the runs part, those of torch's own default and fused AdamW
as well. Their difference is printed for comparison, and ``--full`` compares all losses in double precision too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modalign.methods.cmm.cmm import CMM
from modalign.methods.cmm.cmm_parameters import CMMParameters, Objective
from modalign.methods.cmm.cmm_training import CMMRun, Schedule
from modalign.methods.contract.training_steps import batch_order

SIZES = ((512, 100, 1600, 4000), (1024, 1000, 16_000, 800))  # d, classes, images, steps measured by default
STRETCH = 100
REQUIRED = 2.4
TOLERANCE = 1e-4
MOST_STEPS = 1700  # a whole fit of the default, in steps as published, at d = 512, 100 classes, 16 images each


class Plain(nn.Module):
    """CMM's trainable part as a plain torch module."""

    def __init__(self, weight: Tensor, text: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(len(weight), len(weight), bias=False)
        self.map.weight.data = weight.T.clone()
        self.text = nn.Parameter(text.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Cosines of the mapped images and the learned texts."""
        return F.normalize(x + self.map(x), dim=1) @ F.normalize(self.text, dim=1).T


def plain_steps(
    X: Tensor, y: Tensor, weight: Tensor, text: Tensor, order: Tensor, schedule: Schedule, fused: bool | None
) -> Iterator[float]:
    """The loss of every step, each computed lazily."""
    aim, model = Objective(), Plain(weight, text)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=fused
    )
    low, high, warm = schedule.min_learning_rate, schedule.learning_rate, schedule.warmup_steps

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        cosine = math.cos(math.pi * (step - warm) / (schedule.steps - warm))
        return (low + (high - low) * (1 + cosine) / 2) / high

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for rows in order:
        x, label = X[rows], y[rows]
        similarity = model(x)
        loss = F.cross_entropy(aim.logit_scale * (similarity + aim.zero_shot_weight * (x @ text.T)), label)
        positive = similarity.gather(1, label[:, None])[:, 0]
        negative = similarity.scatter(1, label[:, None], -torch.inf).max(dim=1).values
        loss = loss + F.relu((1 - positive) - (1 - negative) + aim.margin).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.item()


def problem(d: int, classes: int, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit images around class directions, their labels, unit texts beside those directions, a start W."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(classes, d, generator=generator), dim=1)
    y = torch.arange(n) % classes
    X = F.normalize(centers[y] + 1.5 / d**0.5 * torch.randn(n, d, generator=generator), dim=1)
    text = F.normalize(centers + 1.5 / d**0.5 * torch.randn(classes, d, generator=generator), dim=1)
    weight = (2 * torch.rand(d, d, generator=generator) - 1) / d**0.5
    return X, y, text, weight


def measure(full: bool) -> list[dict[str, Any]]:
    """One row per size of the loop, then one per way to fit."""
    rows = []
    for d, classes, n, steps in SIZES:
        row = _measure(d, classes, n, Schedule().steps if full else steps)
        rows.append(row | {"difference_in_double": _double_difference(d, classes, n) if full else None})
    return rows + _fits(full)


def _fits(full: bool) -> list[dict[str, Any]]:
    """Whole fits of 16 images for each of 100 classes, four validation images per class where there are any.

    The published fit is measured in full, or by 2,000 of its steps.
    """
    X, y, text, _ = problem(512, 100, 2000)
    learned, held = slice(0, 1600), slice(1600, 2000)
    steps = Schedule().steps if full else 2000
    rows = []
    for name, validated, model in (
        ("as published", True, CMM(preset="paper", steps=steps, random_state=0)),
        ("default, validation images", True, CMM(random_state=0)),
        ("default, cross-fitted", False, CMM(random_state=0)),
    ):
        validation = (X[held], y[held]) if validated else None
        started = time.process_time()
        model.fit(X[learned], y[learned], text=text, validation=validation)
        rows.append({"fit": name, "steps": model.steps_, "seconds": time.process_time() - started})
        rows[-1]["published_steps"] = rows[-1]["seconds"] / rows[0]["seconds"] * steps
    return rows


def _double_difference(d: int, classes: int, n: int) -> float:
    """The largest difference of any loss of the whole schedule, both loops in float64."""
    X, y, text, weight = (t.double() if t.is_floating_point() else t for t in problem(d, classes, n))
    schedule = Schedule()
    order = batch_order(n, 8, schedule.steps, torch.Generator().manual_seed(1))
    expected = torch.tensor(list(plain_steps(X, y, weight, text, order, schedule, None)), dtype=torch.float64)
    run = CMMRun(CMMParameters([weight], text, Objective()), X, y, order, schedule)
    run.advance(schedule.steps)
    return (run.record().losses - expected).abs().max().item()


def _measure(d: int, classes: int, n: int, steps: int) -> dict[str, Any]:
    X, y, text, weight = problem(d, classes, n)
    schedule = Schedule()
    order = batch_order(n, 8, schedule.steps, torch.Generator().manual_seed(1))[:steps]
    loops = {fused: plain_steps(X, y, weight, text, order, schedule, fused) for fused in (None, True)}
    losses: dict[bool | None, list[float]] = {fused: [] for fused in loops}
    seconds = dict.fromkeys(loops, 0.0)

    run, ours = CMMRun(CMMParameters([weight], text, Objective()), X, y, order, schedule), 0.0
    for done in range(STRETCH, steps + 1, STRETCH):  # ours and each plain loop in turns
        started = time.process_time()
        run.advance(done)
        ours += time.process_time() - started
        for fused, loop in loops.items():
            started = time.process_time()
            with torch.enable_grad():
                losses[fused] += [next(loop) for _ in range(STRETCH)]
            seconds[fused] += time.process_time() - started

    record = run.record()
    difference = (record.losses - torch.tensor(losses[None])).abs().max().item()
    return {
        "d": d,
        "classes": classes,
        "images": n,
        "steps": steps,
        "of": schedule.steps,
        "plain_seconds": seconds[None],
        "plain_fused_seconds": seconds[True],
        "seconds": ours,
        "faster": seconds[None] / ours,
        "faster_than_fused": seconds[True] / ours,
        "largest_loss_difference": difference,
        "difference_of_the_plain_loops": (torch.tensor(losses[True]) - torch.tensor(losses[None])).abs().max().item(),
        "first_loss": record.losses[:STRETCH].mean().item(),
        "last_loss": record.losses[-STRETCH:].mean().item(),
    }


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a row is slower than required or computes something else."""
    return any(
        row["published_steps"] > MOST_STEPS and row["fit"].startswith("default")
        if "fit" in row
        else (row["faster"] < REQUIRED or not _judged_difference(row) < TOLERANCE)
        for row in rows
    )


def _judged_difference(row: dict[str, Any]) -> float:
    double = row["difference_in_double"]
    return row["largest_loss_difference"] if double is None else double


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("CMM's training loop, batch 8, processor seconds")
    for row in rows:
        if "fit" in row:
            print(
                f"  whole fit, {row['fit']}: {row['seconds']:.2f} s, the time of {row['published_steps']:,.0f} "
                f"published steps (at most {MOST_STEPS:,}); {row['steps']:,} steps kept"
            )
            continue
        print(
            f"  d = {row['d']}, C = {row['classes']}, {row['steps']:,} of {row['of']:,} steps: plain torch "
            f"{row['plain_seconds']:.1f} s, with its fused AdamW {row['plain_fused_seconds']:.1f} s, ours "
            f"{row['seconds']:.1f} s\n"
            f"    {row['faster']:.2f} × faster than plain (required {REQUIRED}), {row['faster_than_fused']:.2f} × "
            f"than with fused AdamW\n"
            f"    losses of all these steps differ by at most {row['largest_loss_difference']:.1e} (required "
            f"{TOLERANCE:g}; the two plain loops: {row['difference_of_the_plain_loops']:.1e}) on their way from "
            f"{row['first_loss']:.3f} to {row['last_loss']:.3f}"
        )
        if row["difference_in_double"] is not None:
            print(f"    in double precision by at most {row['difference_in_double']:.1e}")
