"""Accuracy on real CLIP ViT-B/32 features of two benchmark data sets: ``python -m bench.real``.

Caltech101, the 68 classes that have a text vector, and Oxford Flowers-102, without text, where class means stand in for
it. The shot sets are the fixed ones of the files, so seeds vary only what a method draws itself (start and batch
order) and, with ``--validation few``, the validation images: the interval over seeds says nothing about other draws
of the shots. The interval of the test set (Wilson) stands beside it.

Everything is chosen on validation images; the test labels are sealed and each fitted method is scored once.
"""

from __future__ import annotations

import sys

from bench.accuracy import Build, Cell, Dataset, add_cells, command, parse, run
from modalign.methods.cmm import CMM
from modalign.methods.linear_probe import LinearProbe
from modalign.methods.zero_shot import ZeroShot

REQUIRED = {
    ("caltech101", 1): 92.4,
    ("caltech101", 4): 95.4,
    ("caltech101", 16): 96.4,
    ("oxford_flowers", 1): 68.0,
    ("oxford_flowers", 4): 89.1,
    ("oxford_flowers", 16): 95.2,
}
"""Of CMM, by data set and number of shots."""


def methods(data: Dataset, steps: int) -> dict[str, Build]:
    """Name → how to build it for a seed; only CMM draws anything itself."""
    rows: dict[str, Build] = {} if data.text is None else {"zero-shot": lambda seed: ZeroShot()}
    return rows | {
        "nearest mean": lambda seed: ZeroShot(),
        "linear probe": lambda seed: LinearProbe(),
        "CMM": lambda seed: CMM(steps=steps, random_state=seed),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a required accuracy was missed."""
    parser = command("real", __doc__)
    add_cells(parser, shots=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=16_000, help="of CMM; 16,000 is its published schedule")
    options = parse(parser, arguments)
    few = options.validation == "few"
    varying = {"CMM", "linear probe"} if few else {"CMM"}
    cells = [
        Cell(
            data, shots, name, build,
            seeds=options.seeds if name in varying else 1,
            required=REQUIRED.get((data.name, shots)) if name == "CMM" else None,
        )
        for data in map(Dataset.load, options.datasets)
        for shots in options.shots
        for name, build in methods(data, options.steps).items()
    ]  # fmt: skip
    protocol = (
        f"Fixed shot sets; {options.seeds} seeds vary start, batch order"
        + (" and validation images (min(shots, 4) a class)" if few else "")
        + f"; choices on {options.validation} validation images; one test each; CMM {options.steps} steps."
    )
    return run(cells, protocol, options)


if __name__ == "__main__":
    sys.exit(main())
