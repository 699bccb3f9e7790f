"""Run by test_extraction in a process of its own: embeds in forked children, and kills them.

Forking after the encoder is loaded makes a killed run cost its own time only and not seconds of imports.

The encoder is made to depend on its batches: every row gets a little of all the rows beside it and of its place. So
if a resumed run formed other batches than an undisturbed one, the vectors would differ far beyond rounding.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

import modalign as ma
from modalign.encoders.features import extraction
from modalign.encoders.features.store import FeatureStore

WORK, CHECKPOINT, PHOTOS = map(Path, sys.argv[1:4])
BATCH = 4
torch.set_num_threads(1)  # a child of a process with threads of OpenMP would wait for them for ever
ENCODER = ma.load_encoder(CHECKPOINT, device="cpu", cache=False)


def entangle(encode):
    def entangled(prepared, *, tokens=False):
        vectors, patches = encode(prepared, tokens=tokens)
        time.sleep(0.01)
        place = torch.arange(len(vectors))[:, None] / 64
        return vectors + 0.01 * vectors.sum(0) + place, patches

    return entangled


def embed(cache: Path, out: Path, batch_size: int = BATCH, entangled: bool = True, reverse: bool = False) -> None:
    encoder = copy.copy(ENCODER)
    encoder.store = FeatureStore(cache)
    if entangled:
        encoder.encode = entangle(encoder.encode)
    paths = sorted(PHOTOS.rglob("*.jpg"), reverse=reverse)
    features = encoder.embed_images(paths, batch_size=batch_size, progress=False)
    np.savez(out, vectors=features.vectors, ids=features.ids, bad=[q.id for q in features.quarantined])


def start(*args, commit_seconds: float = 0.0, **options) -> int:
    child = os.fork()
    if child == 0:
        extraction.COMMIT_SECONDS = commit_seconds
        try:
            embed(*args, **options)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def finish(child: int) -> None:
    assert os.waitpid(child, 0)[1] == 0


def table(cache: Path) -> bytes:
    return next(cache.glob("*-centre/vectors.f32")).read_bytes()


def reference() -> tuple[Path, Path]:
    cache, out = WORK / "undisturbed", WORK / "undisturbed.npz"
    finish(start(cache, out))
    return cache, out


def same(a: Path, b: Path) -> bool:
    with np.load(a) as x, np.load(b) as y:
        return all(x[name].tobytes() == y[name].tobytes() for name in ("vectors", "ids", "bad"))


def grown(cache: Path) -> int:
    """Bytes of vectors that a run has written so far."""
    return sum(path.stat().st_size for path in cache.glob("*-centre/vectors.f32"))


def kill(times: int, cache: Path, out: Path) -> list[list]:
    """Random moments are random amounts of work done and a little more time, so that a slow machine changes nothing."""
    dice = random.Random(0)
    whole = grown(cache)
    results = []
    for trial in range(times):
        mine, result = WORK / f"killed{trial}", WORK / f"killed{trial}.npz"
        for _ in range(2 if trial % 4 == 3 else 1):  # some are killed twice
            child = start(mine, result, commit_seconds=0.0 if trial % 3 else 0.05)
            enough = dice.uniform(0, whole)
            while grown(mine) < enough:  # never the whole, so the child is still at work
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        kept = grown(mine)
        result.unlink(missing_ok=True)
        finish(start(mine, result))
        results.append([kept, same(out, result), table(mine) == table(cache)])
    return results


def together(cache: Path, out: Path) -> dict:
    shared = WORK / "shared"
    children = []
    for k in range(3):
        children.append(start(shared, WORK / f"together{k}.npz"))
        time.sleep(0.07 * k)
    for child in children:
        finish(child)
    return {
        "same": [same(out, WORK / f"together{k}.npz") for k in range(3)],
        "table": table(shared) == table(cache),
    }


def crossing() -> dict:
    """Two processes from opposite ends, with other batches: nothing is doubled or mixed up."""
    shared = WORK / "crossed"
    options = {"entangled": False}
    children = [
        start(shared, WORK / "forth.npz", 4, **options),
        start(shared, WORK / "back.npz", 3, reverse=True, **options),
    ]
    for child in children:
        finish(child)
    finish(start(WORK / "alone", WORK / "alone.npz", 4, **options))
    with np.load(WORK / "forth.npz") as a, np.load(WORK / "back.npz") as b, np.load(WORK / "alone.npz") as c:
        order = [list(b["ids"]).index(name) for name in a["ids"]]
        return {
            "apart": float(np.abs(a["vectors"] - b["vectors"][order]).max()),
            "from alone": float(np.abs(a["vectors"] - c["vectors"]).max()),
            "sizes": [len(table(shared)), len(table(WORK / "alone"))],
        }


if __name__ == "__main__":
    cache, out = reference()
    found = {"whole": len(table(cache)), "killed": kill(20, cache, out)}
    print(json.dumps(found | {"together": together(cache, out), "crossing": crossing()}))
