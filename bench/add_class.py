"""Accuracy on a class that is added after the fit, and its cost for the other classes.

    python -m bench.add_class FILE.npz [--heads lfa,gda] [--part val] [--classes 12] [--out FILE.jsonl]

The file holds vectors as `bench.real` reads them: `text`, `text_labels`, `shots16_*`, `val_*` and `test_*`. Each of
some classes is left out of the fit in turn and then added, by its text alone and with 4 images. A line of JSON is
written for each head and seed, with means over the classes: accuracy on images of the class by zero-shot
classification among all classes and after adding it; accuracy on images of the other classes before and after.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods import method_class
from modalign.methods.added.added_classes import AddedClasses

HEADS = ("lfa", "cross_modal_probe", "tip_adapter", "gda", "cmm", "auto")
SEEDS, SHOTS, IMAGES = (0, 1, 2), 16, 4


class Left:
    """The vectors of a file, of classes that have text."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.known = file["text_labels"]
            self.text = unit(torch.from_numpy(file["text"].astype(np.float32)))
            self.parts = {name: self._read(file, name) for name in (f"shots{SHOTS}", "val", "test")}

    def _read(self, file: Any, name: str) -> tuple[Tensor, Tensor]:
        rank = {int(c): k for k, c in enumerate(self.known)}
        labels = file[f"{name}_labels"]
        kept = np.isin(labels, self.known)
        codes = torch.tensor([rank[int(c)] for c in labels[kept]])
        return unit(torch.from_numpy(file[f"{name}_images"][kept].astype(np.float32))), codes

    def trial(self, head: str, c: int, seed: int, part: str) -> dict[str, list[float]]:
        """Class ``c`` left out and added; a list of 0 and 1, one per image."""
        rows = torch.tensor([k for k in range(len(self.text)) if k != c])
        order = torch.cat([rows, torch.tensor([c])])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        X, y = self.parts[f"shots{SHOTS}"]
        Xv, yv = self.parts["val"]
        draw = np.random.default_rng([seed, c])
        method = method_class(head)()
        if "random_state" in method.get_params():
            method.set_params(random_state=seed)
        taught, held = y != c, (yv != c) & torch.from_numpy(draw.random(len(yv)) < 0.5)
        taught &= torch.from_numpy(draw.random(len(y)) < 0.75)  # another training set for every seed
        method.fit(X[taught], place[y[taught]], text=self.text[rows], validation=(Xv[held], place[yv[held]]))
        base = AddedClasses.of(method, method.temperature_, self.text[order], list(map(str, order.tolist())))
        own = draw.permutation(torch.nonzero(y == c).flatten().numpy())[:IMAGES]
        Xt, yt = (values[~held] for values in self.parts["val"]) if part == "val" else self.parts["test"]
        new, last = yt == c, len(rows)
        found: dict[str, list[float]] = {
            "zero_shot_new": _right(Xt[new] @ self.text.T, torch.full_like(yt[new], c)),
            "zero_shot_seen": _right(Xt[~new] @ self.text.T, yt[~new]),
            "seen_before": _right(method.scores(Xt[~new]), place[yt[~new]]),
        }
        for name, added in (("text", base), ("images", base.corrected(X[own]))):
            found[f"new_{name}"] = _right(added.scores(Xt[new]), torch.full_like(yt[new], last))
            found[f"seen_{name}"] = _right(added.scores(Xt[~new]), place[yt[~new]])
        return found


def _right(scores: Tensor, truth: Tensor) -> list[float]:
    return (scores.argmax(dim=1) == truth).float().tolist()


def main() -> None:
    """Measure and write the rows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--heads", default=",".join(HEADS))
    options.add_argument("--part", choices=("val", "test"), default="test")
    options.add_argument("--classes", type=int, default=12, help="how many are left out in turn")
    options.add_argument("--out", type=Path, default=Path("add_class.jsonl"))
    given = options.parse_args()
    torch.set_num_threads(1)
    left = Left(given.file)
    for head in given.heads.split(","):
        for seed in SEEDS:
            chosen = np.random.default_rng(seed).choice(len(left.text), given.classes, replace=False)
            trials = [left.trial(head, int(c), seed, given.part) for c in chosen]
            means = {key: float(np.mean([np.mean(one[key]) for one in trials])) for key in trials[0]}
            line = {"head": head, "seed": seed, "part": given.part, "classes": given.classes} | means
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


if __name__ == "__main__":
    main()
