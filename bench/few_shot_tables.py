"""The results of ``bench.few_shot`` as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.few_shot import Row

HEAD = """# Few labels

Top-1 accuracy on test images of CLIP ViT-B/32 features, in percent.

- Protocol: {protocol}. A full run has 3 seeds and 1, 2, 4, 8 and 16 shots. What was not measured is empty.
- ± is half the 95 % interval over the seeds, which draw the validation images and all other random numbers. It is
  omitted with one seed, and where nothing is random.
- ✗ marks `auto`, `anchored_gaussian`, `cmm` and `lfa` where they are more than 0.3 points below zero-shot.
- The calibration error (15 bins) is that of `predict_proba`. Without validation images methods
  fit their temperature to labeled images that cross-validation or refits hold out.
- Seconds are processor time of one fit with its choices. What `auto` chooses within its time depends on the machine.
- Machine: {machine}

`python -m bench.few_shot --out docs/results/few_shot.md` makes this page. The figures of every fit are in
`few_shot.jsonl`; fits in that file are not measured again.
"""

STUDIES = "\n## Studies of `auto`\n"  # the part of the page that is written by hand, at its end


def tables(rows: Sequence[Row], protocol: str, machine: str) -> str:
    """The page: for each data set, with and without text and validation images, a table of each figure."""
    parts = [HEAD.format(protocol=protocol, machine=machine)]
    for title, some in _sections(rows):
        parts.append(f"## {title}\n")
        base = some[0].zero_shot
        if base is not None:
            parts.append(f"Zero-shot: {base:.1f}\n")
        parts.append(_table("accuracy", some, lambda row: f"{row.top1:.1f}{_spread(row)}{_mark(row)}"))
        parts.append(_table("calibration error", some, lambda row: f"{row.calibration_error:.1f}"))
        parts.append(_table("seconds", some, lambda row: f"{row.seconds:.1f}"))
        timed = [row for row in some if row.method == "auto"]
        if timed and all(row.wall is not None for row in timed):
            parts.append(_table("wall seconds, longest of the seeds", timed, lambda row: f"{row.wall:.1f}"))
        chosen = [f"| {row.shots} | {row.chosen} | {row.not_tried} |" for row in some if row.chosen]
        if chosen:
            parts.append(
                "\n".join(
                    ["| shots | chosen by `auto` (last seed) | not tried in its time |", "|---|---|---|", *chosen]
                )
                + "\n"
            )
    return "\n".join(parts)


def written_by_hand(page: str) -> str:
    """The part of an earlier page that is kept."""
    _, head, text = page.partition(STUDIES)
    return head + text


def _sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for key in dict.fromkeys((row.dataset, row.text, row.validation) for row in rows):
        dataset, text, validation = key
        given = f"{'with' if text else 'without'} text, {'with' if validation else 'without'} validation images"
        yield f"{dataset}, {given}", [row for row in rows if (row.dataset, row.text, row.validation) == key]


def _table(figure: str, rows: Sequence[Row], show: Callable[[Row], str]) -> str:
    """Methods down, shots across."""
    shots = list(dict.fromkeys(row.shots for row in rows))
    found = {(row.method, row.shots): show(row) for row in rows}
    lines = [f"| {figure} | {' | '.join(map(str, shots))} |", "|---" * (len(shots) + 1) + "|"]
    for method in dict.fromkeys(row.method for row in rows):
        lines.append(f"| {method} | {' | '.join(found.get((method, count), '') for count in shots)} |")
    return "\n".join(lines) + "\n"


def _spread(row: Row) -> str:
    return f" ± {row.half_width:.1f}" if row.half_width else ""


def _mark(row: Row) -> str:
    return " ✗" if row.missed() else ""
