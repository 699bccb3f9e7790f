"""GPUA compared with the textbook algorithm: one update of the correspondences, and Procrustes from PᵀZ.

The textbook update computes the distances of all images from all centers and texts, and normalizes the dense plan in
turns over rows and columns until its class marginals are as accurate as ours. Ours are more accurate than the required
tolerance; the time of the textbook algorithm to that tolerance is reported too. It stops after :data:`MAX_SWEEPS`. Both
start from the same centers and end in the same plan; the difference is reported. Processor time, in one run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.record import plain, versions
from modalign.linalg.procrustes import procrustes
from modalign.methods.gpua import gpua_correspondence as stage
from modalign.methods.gpua.gpua import GPUA
from modalign.methods.gpua.gpua_marginals import Marginals
from modalign.methods.gpua.gpua_rows import Images

N, K, D, D_TEXT = 50_000, 100, 1280, 512
WEIGHT, EPSILON, TOLERANCE = 0.9, 0.01, 1e-5
REQUIRED = {"update": 10.0, "procrustes": 5.0}
MAX_SWEEPS = 3000
PART: dict[str, Any] = {"max_iterations": 2, "tolerance": 1e-6, "steps": 5}  # of a fit: enough to see its memory


def problem(n: int, classes: int, part: int = 0) -> tuple[Tensor, Tensor]:
    """Visual vectors (n, D), of which the last D_TEXT columns are the language view, and text (classes, D_TEXT).

    Images and texts share one direction each, as CLIP's do, and some classes attract more than others. Another ``part``
    has other images of the same classes.
    """
    fixed, drawn = torch.Generator().manual_seed(0), torch.Generator().manual_seed(part + 1)

    def unit(rows: int, width: int, generator: torch.Generator) -> Tensor:
        return F.normalize(torch.randn(rows, width, generator=generator), dim=1)

    centers, text, shared = unit(classes, D - D_TEXT, fixed), unit(classes, D_TEXT, fixed), unit(1, D_TEXT, fixed)
    y = torch.randperm(n, generator=drawn) % classes
    Z = torch.empty(n, D)
    for rows in torch.arange(n).split(20_000):
        images = centers[y[rows]] + unit(len(rows), D - D_TEXT, drawn)
        meant = 0.3 * text[y[rows]] + shared + 0.8 * unit(len(rows), D_TEXT, drawn)
        Z[rows] = torch.cat([F.normalize(images, dim=1), F.normalize(meant, dim=1)], dim=1)
    return Z, F.normalize(text + 0.1 * shared * torch.rand(classes, 1, generator=fixed), dim=1)


def textbook_update(
    Z: Tensor, X: Tensor, Y: Tensor, C: Tensor, error: float
) -> tuple[Tensor, Tensor, int, float | None]:
    """The plan, the new centers, the sweeps it took, and the seconds at which :data:`TOLERANCE` was passed.

    Squared distances, less the squared lengths, are affinities up to a constant for each row.
    """
    started, asked = time.process_time(), None
    to_centers = torch.cdist(Z, C).square() - C.square().sum(dim=1)
    to_text = torch.cdist(X, Y).square() - Y.square().sum(dim=1)
    scores = -((1 - WEIGHT) * to_centers + WEIGHT * to_text) / 2
    P = ((scores - scores.amax(dim=1, keepdim=True)) / EPSILON).exp()
    n, classes = P.shape
    off, sweeps = 2.0, 0
    while off > error and sweeps < MAX_SWEEPS:
        sweeps += 1
        P = P / (P.sum(dim=0, keepdim=True) * classes)
        P = P / (P.sum(dim=1, keepdim=True) * n)
        off = float((P.sum(dim=0) - 1 / classes).abs().sum())
        if off <= TOLERANCE and asked is None:
            asked = time.process_time() - started
    return P, (P.T @ Z) / P.sum(dim=0)[:, None], sweeps, asked


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Processor seconds of all threads for one call, and the result."""
    started = time.process_time()
    for _ in range(repeats):
        result = function()
    return (time.process_time() - started) / repeats, result


def measure(full: bool) -> list[dict[str, Any]]:
    """One row a comparison; with ``full`` also a memory-mapped problem of 200,000 × 1000 × 1280."""
    return compared() + ([streamed(200_000, 1000)] if full else [])


def compared() -> list[dict[str, Any]]:
    """An update and Procrustes, ours and the textbook's."""
    Z, Y = problem(N, K)
    X = Z[:, D - D_TEXT :].contiguous()
    images = Images(Z, X, [D - D_TEXT, D_TEXT], n_classes=K, memory=2**30)
    start = stage.zero_shot(images, Y, 100.0)
    uniform = Marginals(torch.full((K,), 1 / K), "uniform", {})
    settings = {"weight": WEIGHT, "epsilon": EPSILON, "tolerance": TOLERANCE, "max_iterations": 1}
    ours, found = timed(lambda: stage.find_correspondences(images, Y, start, uniform, **settings))
    error = found.offsets.marginal_error
    theirs, (P, centers, sweeps, asked) = timed(lambda: textbook_update(Z, X, Y, start.centers, error))
    rows = [
        {
            "what": "update",
            "images": N, "classes": K, "d": D,
            "seconds": ours,
            "textbook_seconds": theirs,
            "faster": theirs / ours,
            "passes": found.offsets.passes,
            "textbook_sweeps": sweeps,
            "textbook_seconds_to_tolerance": asked,
            "faster_to_tolerance": None if asked is None else asked / ours,
            "textbook_gave_up": sweeps == MAX_SWEEPS,
            "marginal_error": found.offsets.marginal_error,
            "largest_centre_difference": float((found.assignment.centers - centers).abs().max()),
            "labels_that_differ": float((found.assignment.labels != P.argmax(dim=1)).double().mean()),
        }
    ]  # fmt: skip
    targets = (N * P) @ Y
    moments = found.assignment.moments.float()
    ours, short = timed(lambda: procrustes(moments, Y), repeats=5)

    def textbook() -> Tensor:
        U, singular, Vh = torch.linalg.svd(Z.T @ targets, full_matrices=False)
        kept = singular > 1e-5 * singular[0]
        return U[:, kept] @ Vh[kept]

    theirs, long = timed(textbook, repeats=5)
    rows.append(
        {
            "what": "procrustes",
            "images": N, "classes": K, "d": D,
            "seconds": ours,
            "textbook_seconds": theirs,
            "faster": theirs / ours,
            "largest_difference": float((Z[:1000] @ (short - long) @ Y.T).abs().max()),
        }
    )  # fmt: skip
    return rows


def streamed(n: int, classes: int, settings: Mapping[str, Any] = PART) -> dict[str, Any]:
    """A memory-mapped problem in half precision, fitted in bounded memory.

    Memory does not depend on how many updates there are, nor on how exact each of them is.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Z.npy"
        Z = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(n, D))
        step = 50_000
        for first in range(0, n, step):
            part, text = problem(min(step, n - first), classes, first)
            Z[first : first + step] = part.half().numpy()
        Z.flush()
        features = np.load(file, mmap_mode="r")
        del Z, part
        method = GPUA(random_state=0, **settings)
        with Watch() as watch:
            seconds, _ = timed(
                partial(method.fit, features, text=text.numpy(), clip_features=features[:, D - D_TEXT :])
            )
    return {
        "what": "streamed",
        "images": n, "classes": classes, "d": D,
        "seconds": seconds,
        "iterations": method.diagnosis_["iterations"],
        "marginal_error": method.diagnosis_["marginal_error"],
        "gib_beside_the_features": watch.highest - watch.before,
        "gib_of_the_features": n * D * 2 / 2**30,
    }  # fmt: skip


class Watch(threading.Thread):
    """The highest memory of the process's own, in GiB, while the block runs; pages of mapped files do not count."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.highest = resident()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.02):
            self.highest = max(self.highest, resident())

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()


def resident() -> float:
    """GiB of memory that is the process's own (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon"))


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether something is slower than required or another result than the textbook's."""
    return any(row["faster"] < REQUIRED[row["what"]] for row in rows if row["what"] in REQUIRED) or any(
        row.get("largest_centre_difference", 0) > 1e-3 or row.get("largest_difference", 0) > 1e-3 for row in rows
    )


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("GPUA, processor seconds")
    for row in rows:
        size = f"  {row['what']}, n = {row['images']:,}, K = {row['classes']}, d = {row['d']}"
        if row["what"] == "streamed":
            print(
                f"{size}: {row['iterations']} updates in {row['seconds']:.0f} s, "
                f"{row['gib_beside_the_features']:.2f} GiB beside {row['gib_of_the_features']:.2f} GiB of features"
            )
            continue
        least = "at least " if row.get("textbook_gave_up") else ""
        print(
            f"{size}: textbook {least}{row['textbook_seconds']:.2f} s, ours {row['seconds']:.3f} s, "
            f"{row['faster']:.1f} × faster (required {REQUIRED[row['what']]:g})"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a requirement was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed_gpua", description=__doc__.split("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="also a memory-mapped problem of 200,000 images")
    parser.add_argument("--images", type=int, metavar="N", help="only a memory-mapped problem of N images")
    parser.add_argument("--updates", type=int, default=PART["max_iterations"], help="of the plan, with --images")
    parser.add_argument("--tolerance", type=float, default=PART["tolerance"], help="of its marginals, with --images")
    parser.add_argument("--default-settings", action="store_true", help="the whole fit, with --images")
    parser.add_argument("--threads", type=int, default=1, help="threads for both sides")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    part = PART | {"max_iterations": options.updates, "tolerance": options.tolerance}
    settings = {} if options.default_settings else part
    rows = measure(options.full) if options.images is None else [streamed(options.images, 1000, settings)]
    if options.json:
        print(json.dumps(plain({"threads": options.threads, "results": rows, "versions": versions()}), indent=1))
    else:
        show(rows)
    return int(missed(rows))


if __name__ == "__main__":
    sys.exit(main())
