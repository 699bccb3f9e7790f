"""Draw docs/assets/demo.png, the picture of the README, from the runs of ``modalign demo`` (about half a minute).

python scripts/readme_picture.py
"""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from modalign.cli.demo import Demo, run_demo
from modalign.data.digits import load_digits
from modalign.encoders import load_encoder
from modalign.model.adaptation import adapt
from modalign.report.style import INK, MUTED, SERIES

TARGET = Path(__file__).parents[1] / "docs" / "assets" / "demo.png"
COLUMNS, ROWS = 6, 3


def main() -> None:
    """Run the demonstration and draw the answers on the left and the accuracies on the right."""
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder) / "page.html")
    figure = Figure(figsize=(10, 3.6), facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=[1.05, 1])
    draw_answers(left)
    draw_accuracy(right, demo)
    figure.savefig(TARGET, dpi=130, metadata={"Software": None})


def draw_answers(figure: Figure | SubFigure) -> None:
    """Digits with the predictions of a model fitted to the other digits without labels; errors in color."""
    digits = load_digits()
    order = np.random.default_rng(4).permutation(len(digits))
    shown, fitted = order[: COLUMNS * ROWS], order[COLUMNS * ROWS :]
    model = adapt(
        digits.select(fitted),
        encoder=load_encoder("tiny"),
        method="gpua",
        classes=digits.class_names,
        unlabeled=True,
        mirror=False,
    )
    answers = model.predict(digits.select(shown))
    figure.suptitle("GPUA without labels: its answers, mistakes in orange", x=0.02, ha="left", fontsize=10, color=INK)
    for axis, i, answer in zip(figure.subplots(ROWS, COLUMNS).flat, shown, answers, strict=True):
        axis.imshow(Image.open(BytesIO(digits.blobs[i].read())), cmap="gray")
        right = answer.name == digits.class_names[digits.labels[i]]
        axis.set_title(f"{answer.name} {answer.probability:.2f}", fontsize=8, pad=3, color=INK if right else SERIES[1])
        axis.set_axis_off()
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.84, hspace=0.35, wspace=0.1)


def draw_accuracy(figure: Figure | SubFigure, demo: Demo) -> None:
    """Mean accuracy over the draws of the labeled images against their number per class."""
    axis = figure.subplots()
    for k, name in enumerate(dict.fromkeys(row.method for row in demo.table)):
        rows = [row for row in demo.table if row.method == name]
        mean = [100 * row.accuracy.mean for row in rows]
        label, color = f"{name} {mean[-1]:.1f}", SERIES[k % len(SERIES)]
        if rows[0].shots == 0:
            axis.axhline(mean[0], color=color, linestyle=":", linewidth=1.6, label=f"{label} (no label)")
        else:
            axis.plot([str(row.shots) for row in rows], mean, "o-", color=color, label=label)
    axis.set_xlabel("labeled images per class", color=MUTED)
    axis.set_ylabel("accuracy on the test half, %", color=MUTED)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.15, top=0.95)


if __name__ == "__main__":
    main()
