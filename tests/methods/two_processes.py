"""One of two processes that torchrun would start: ``python two_processes.py FOLDER PHOTOS``, RANK in the environment.

It trains every method inside the encoder, fits by the command line, requests a method on vectors, and in the end the
second process dies while the first one trains.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file

import modalign as ma
from modalign.cli import run
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import sentences
from modalign.methods import TOWER_METHODS, method_class
from modalign.methods.contract.team import Team, together
from modalign.methods.contract.tower import TowerMethod
from modalign.testing import few_shot_problem

RECIPE = {"epochs": 1, "batch_size": 7, "augmentation": "center", "random_state": 1}
PER_METHOD: dict[str, dict[str, Any]] = {
    "clip_lora": {"dropout": 0.0},  # what a process draws for its own images is its own
    "upl": {"prompts": 2},
}


def train_all() -> dict[str, TowerMethod]:
    """Every method inside the encoder, fitted to twenty digits: two steps of seven images and one of six."""
    items = load_digits()
    items = items.select(np.concatenate([np.flatnonzero(items.labels == c)[:2] for c in range(10)]))
    encoder = ma.load_encoder("tiny", cache=False, dtype="float32")
    text = encoder.embed_texts(sentences(items.class_names, DIGIT_TEMPLATES), class_names=items.class_names)
    found = {}
    for name in TOWER_METHODS:
        settings: dict[str, Any] = RECIPE | PER_METHOD.get(name, {})
        found[name] = method_class(name)(**settings).fit(items, text=text, encoder=encoder)
    return found


def fit_gpua(rows: slice) -> ma.GPUA:
    """GPUA on some rows of a small problem."""
    *_, Xt, _, text = few_shot_problem()
    return ma.GPUA(random_state=0, batch_size=50).fit(Xt[rows], text=text)


def command(*words: str) -> dict[str, Any]:
    """What a command prints, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(words)
    return {"out": out.getvalue(), "err": err.getvalue(), "code": code}


def main(folder: Path, photos: Path) -> None:
    """All results that the tests check."""
    rank = int(os.environ["RANK"])
    fit = ["fit", str(photos), "--method", "coop", "--set", "epochs=1", "--validation", "none", "--json"]
    told: dict[str, Any] = {}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, method in train_all().items():
        save_file(method.tensors_, folder / f"{name}-{rank}.safetensors")
    with together(Team.of_torch()):
        save_file({"weight": fit_gpua(slice(rank, None, 2)).weight_}, folder / f"gpua-{rank}.safetensors")
    told["fit"] = command(*fit, "--out", str(folder / "model"))
    told["vectors"] = command("fit", str(photos), "--method", "gda", "--out", str(folder / "gda"))
    if rank == 0:
        told["alone"] = command(*fit, "--out", str(folder / "alone"))
    (folder / f"told-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
