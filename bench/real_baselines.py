"""Accuracy of the baselines on the data of :mod:`bench.real`, by its protocol: ``python -m bench.real_baselines``.

Beside it, the methods that learn from unlabeled images, on the test images themselves ("transductive"): they get
these without labels, with the labeled images of the shot set or, at 0 shots, with none, and are evaluated on their
answers for them. The test labels are sealed and every fitted method is evaluated once.
"""

from __future__ import annotations

import sys

from bench.accuracy import Build, Cell, Dataset, add_cells, add_validation, command, parse, run
from modalign.methods.baselines.cross_modal_probe import CrossModalProbe
from modalign.methods.baselines.lfa import LFA
from modalign.methods.baselines.tip_adapter import TipAdapter, TipAdapterF
from modalign.methods.baselines.transclip import TransCLIP
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.dam.cma import CMA


def inductive(data: Dataset, shots: int) -> dict[str, Build]:
    """Name → how to build it for a seed; learned from labeled images, tested on others."""
    if not shots:
        return {}
    start = "nearest mean" if data.text is None else "zero-shot"
    return {
        start: lambda seed: ZeroShot(),
        "Tip-Adapter": lambda seed: TipAdapter(),
        "Tip-Adapter-F": lambda seed: TipAdapterF(random_state=seed),
        "LFA": lambda seed: LFA(random_state=seed),
        "cross-modal": lambda seed: CrossModalProbe(random_state=seed),
        "CMA pairs": lambda seed: CMA(form="pairwise"),
        "CMA sets": lambda seed: CMA(form="sets"),
    }


def transductive(data: Dataset, shots: int) -> dict[str, Build]:
    """The same for methods that see the test images without labels."""
    few: dict[str, Build] = {"TransCLIP": lambda seed: TransCLIP()}
    if shots:
        return few
    return {} if data.text is None else few | {"LFA": lambda seed: LFA(random_state=seed)}


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = command("real_baselines", __doc__)
    add_cells(parser, shots=[0, 1, 4, 16])
    add_validation(parser)
    parser.add_argument("--methods", nargs="+", help="only these rows, by the name in the table without (t)")
    options = parse(parser, arguments)
    cells = [
        Cell(data, shots, name, build, options.seeds, transductive=methods is transductive)
        for data in map(Dataset.load, options.datasets)
        for shots in options.shots
        for methods in (inductive, transductive)
        for name, build in methods(data, shots).items()
        if options.methods is None or name in options.methods
    ]
    protocol = (
        f"Fixed shot sets; {options.seeds} seeds vary start and batch order"
        + (" and the validation images (min(shots, 4) per class)" if options.validation == "few" else "")
        + "; (t) transductive: the test images are used in fitting, without labels; one test each."
    )
    return run(cells, protocol, options)


if __name__ == "__main__":
    sys.exit(main())
