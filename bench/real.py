"""Accuracy on real CLIP ViT-B/32 features of two benchmark data sets: ``python -m bench.real``.

Caltech101, the 68 classes that have a text vector, and Oxford Flowers-102, without text, where class means replace
it. The shot sets are the fixed ones of the files, so seeds vary only what a method draws itself (start and batch order)
and, with ``--validation few``, the validation images: the interval over seeds does not cover other draws of the shots.
The interval of the test set (Wilson) is in the next column.

CMM is measured as published and with the default settings, these with and without validation images, as is LFA. The
test labels are sealed and each fitted method is scored once."""

from __future__ import annotations

import sys

from bench.accuracy import Build, Cell, Dataset, add_cells, add_validation, command, parse, run
from modalign.methods.baselines.lfa import LFA
from modalign.methods.baselines.linear_probe import LinearProbe
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.cmm.cmm import CMM

REQUIRED = {
    ("caltech101", 1): 92.4,
    ("caltech101", 4): 95.4,
    ("caltech101", 16): 96.4,
    ("oxford_flowers", 1): 68.0,
    ("oxford_flowers", 4): 89.1,
    ("oxford_flowers", 16): 95.2,
}
"""Of CMM with validation images, by data set and number of shots."""


def methods(data: Dataset, steps: int) -> dict[str, tuple[Build, bool]]:
    """Name → how to build it for a seed, and whether it is given validation images."""
    rows: dict[str, tuple[Build, bool]] = {} if data.text is None else {"zero-shot": (lambda seed: ZeroShot(), True)}
    return rows | {
        "nearest mean": (lambda seed: ZeroShot(), True),
        "linear probe": (lambda seed: LinearProbe(), True),
        "CMM as published": (lambda seed: CMM(preset="paper", steps=steps, random_state=seed), True),
        "CMM": (lambda seed: CMM(random_state=seed), True),
        "CMM, cross-fitted": (lambda seed: CMM(random_state=seed), False),
        "LFA": (lambda seed: LFA(random_state=seed), True),
        "LFA, cross-fitted": (lambda seed: LFA(random_state=seed), False),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a required accuracy was missed."""
    parser = command("real", __doc__)
    add_cells(parser, shots=[1, 4, 16])
    add_validation(parser)
    parser.add_argument("--steps", type=int, default=16_000, help="of CMM as published")
    options = parse(parser, arguments)
    fixed = {"zero-shot", "nearest mean"} | (set() if options.validation == "few" else {"linear probe"})
    cells = [
        Cell(
            data, shots, name, build,
            seeds=1 if name in fixed else options.seeds,
            required=REQUIRED.get((data.name, shots)) if name == "CMM" else None,
            validated=validated,
        )
        for data in map(Dataset.load, options.datasets)
        for shots in options.shots
        for name, (build, validated) in methods(data, options.steps).items()
    ]  # fmt: skip
    protocol = (
        f"Fixed shot sets; {options.seeds} seeds vary start, batch order, folds"
        + (" and validation images (min(shots, 4) per class)" if options.validation == "few" else "")
        + f"; choices on {options.validation} validation images, or cross-fitted on the labeled ones; one test each; "
        f"CMM as published takes {options.steps:,} steps. Calibration error in percent, processor seconds of the fit."
    )
    return run(cells, protocol, options)


if __name__ == "__main__":
    sys.exit(main())
