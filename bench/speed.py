"""Speed compared with plain implementations: ``python -m bench.speed [NAME …]``, ``--json`` for machines.

``--out FILE`` also writes the tables, with the machine's name, into a Markdown file; the table of a benchmark that is
already in it is replaced, and the others stay.

Each benchmark is a module ``bench.speed_NAME`` with ``measure(full: bool) -> list[dict]``, ``show(rows)`` and
``missed(rows) -> bool``; ``headline(rows) -> dict``, where there is one, names figures that go to the top of the JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import redirect_stdout
from datetime import date
from importlib import import_module
from io import StringIO
from pathlib import Path

import torch

from bench.machine import machine
from modalign.core.errors import UnknownNameError
from modalign.core.record import plain, versions

HEAD = "# Speed\n\nTables of `python -m bench.speed`, each as it was measured, on the machine that is named above it.\n"


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.removeprefix("speed_") for path in Path(__file__).parent.glob("speed_*.py"))


def write(file: Path, name: str, title: str, table: str) -> None:
    """Put one table, below the machine that it was measured on, into a Markdown file in place of its last one."""
    section = f"## {name}\n\n{title} {machine()}\n\n```\n{table.rstrip()}\n```\n"
    head, *others = re.split(r"^(?=## )", file.read_text() if file.exists() else HEAD, flags=re.MULTILINE)
    kept = {other.split("\n", 1)[0]: other.rstrip() + "\n" for other in others} | {f"## {name}": section}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([head.rstrip() + "\n", *(kept[key] for key in sorted(kept))]))


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a requirement was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names())}; all by default")
    parser.add_argument("--full", action="store_true", help="whole schedules where the default is a part of them")
    parser.add_argument("--threads", type=int, default=1, help="threads for both sides")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown file to write the tables into")
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
        with redirect_stdout(StringIO()) as table:
            module.show(found[name])
        if not options.json:
            print(table.getvalue(), end="")
        if options.out is not None:
            title = f"`python -m bench.speed {name}{' --full' if options.full else ''}`, {date.today():%B %Y}:"
            write(options.out, name, title, table.getvalue())
    if options.json:
        print(
            json.dumps(
                plain({**figures, "threads": options.threads, "results": found, "versions": versions()}), indent=1
            )
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
