"""How fast, beside what one would otherwise run: ``python -m bench.speed [NAME …]``, ``--json`` for machines.

Each benchmark is a module ``bench.speed_NAME`` with ``measure(full: bool) -> list[dict]``, ``show(rows)`` and
``missed(rows) -> bool``; ``headline(rows) -> dict``, where there is one, names figures that go to the top of the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import torch

from modalign.core.errors import UnknownNameError
from modalign.core.record import plain, versions


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.removeprefix("speed_") for path in Path(__file__).parent.glob("speed_*.py"))


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a requirement was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names())}; all by default")
    parser.add_argument("--full", action="store_true", help="whole schedules where the default is a part of them")
    parser.add_argument("--threads", type=int, default=1, help="threads for both sides")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found, figures, missed = {}, {}, False
    for name in options.names or names():
        if name not in names():
            print(UnknownNameError("benchmark", name, names()), file=sys.stderr)
            return 2
        module = import_module(f"bench.speed_{name}")
        found[name] = module.measure(options.full)
        missed |= module.missed(found[name])
        if hasattr(module, "headline"):
            figures |= module.headline(found[name])
        if not options.json:
            module.show(found[name])
    if options.json:
        print(
            json.dumps(
                plain({**figures, "threads": options.threads, "results": found, "versions": versions()}), indent=1
            )
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
