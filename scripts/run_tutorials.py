"""Run the tutorials and the gallery of the docs and write their pages: text, code, printed output and figures.

python scripts/run_tutorials.py                run all and write the pages
python scripts/run_tutorials.py own_vectors    one of them; a folder, such as gallery, for all in it
python scripts/run_tutorials.py --check        exit 1 if a page lacks text or code of its source; nothing runs

A tutorial is a Python file. Cells begin with ``# %%``. The comment at the top of a cell is Markdown.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = [Path(__file__).parents[1] / "docs" / name for name in ("tutorials", "gallery")]


@dataclass(frozen=True)
class Cell:
    """A part of a tutorial: Markdown and the code behind it."""

    text: str
    code: str


def sources() -> list[Path]:
    """The tutorials, then the gallery, in alphabetical order."""
    return [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]


def cells(path: Path) -> list[Cell]:
    """Read the cells of a tutorial."""
    found = []
    for part in path.read_text("utf-8").split("# %%\n")[1:]:
        lines = part.splitlines()
        end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])
        found.append(Cell(text.strip(), "\n".join(lines[end:]).strip("\n")))
    return found


def run(path: Path, *, images: Path | None = None) -> Iterator[tuple[Cell, str, list[str]]]:
    """Run the cells in a temporary folder with an empty cache; yield each with its output and its figures' names."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    before = Path.cwd(), os.environ.get("MODALIGN_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MODALIGN_CACHE"] = str(Path(folder) / "cache")
        try:
            figures = 0
            for cell in cells(path):
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    exec(compile(cell.code, path.name, "exec"), names)
                drawn = [f"{path.stem}_{figures + k + 1}.png" for k in range(len(_figures()))]
                _save_figures(None if images is None else [images / name for name in drawn])
                figures += len(drawn)
                yield cell, output.getvalue(), drawn
        finally:
            os.chdir(before[0])
            os.environ.pop("MODALIGN_CACHE")
            if before[1] is not None:
                os.environ["MODALIGN_CACHE"] = before[1]


def page(path: Path) -> str:
    """Run a tutorial and return its page; figures go into ``images``."""
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    parts = []
    for cell, output, drawn in run(path, images=images):
        parts += _shown(cell)
        if output.strip():
            parts.append(f"```text\n{output.rstrip()}\n```")
        parts += [f"![{_alternative(cell)}](images/{name})" for name in drawn]
    parts.append(f"This page is the output of [`{path.name}`]({path.name}), which runs as it is.")
    return "\n\n".join(parts) + "\n"


def stale(path: Path) -> bool:
    """Whether the page of a tutorial lacks a text or code of its source, in their order."""
    written = path.with_suffix(".md")
    text = written.read_text("utf-8") if written.exists() else ""
    position = 0
    for part in (part for cell in cells(path) for part in _shown(cell)):
        position = text.find(part, position)
        if position < 0:
            return True
    return False


def _shown(cell: Cell) -> list[str]:
    return [part for part in (cell.text, f"```python\n{cell.code}\n```" if cell.code else "") if part]


def _alternative(cell: Cell) -> str:
    """Words in place of a figure: the first sentence below the heading of the cell."""
    lines = [line for line in cell.text.splitlines() if not line.startswith("#")]
    return " ".join(" ".join(lines).split()).partition(".")[0]


def _figures() -> list[int]:
    return list(sys.modules["matplotlib.pyplot"].get_fignums()) if "matplotlib.pyplot" in sys.modules else []


def _save_figures(paths: list[Path] | None) -> None:
    for k, number in enumerate(_figures()):
        plt = sys.modules["matplotlib.pyplot"]
        if paths is not None:
            plt.figure(number).savefig(paths[k], dpi=120, bbox_inches="tight", metadata={"Software": None})
        plt.close(number)


def main() -> int:
    """Write or check the pages that were asked for."""
    names = {name for name in sys.argv[1:] if not name.startswith("-")}
    chosen = [path for path in sources() if not names or names & {path.stem, path.parent.name}]
    if "--check" in sys.argv:
        old = [path.name for path in chosen if stale(path)]
        print(f"not current: {', '.join(old)}; run scripts/run_tutorials.py" if old else "tutorials are current")
        return bool(old)
    os.environ["MPLBACKEND"] = "agg"
    for path in chosen:
        started = time.process_time()
        path.with_suffix(".md").write_text(page(path), encoding="utf-8")
        print(f"{path.stem}: {time.process_time() - started:.0f} processor seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
