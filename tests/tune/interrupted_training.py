"""Run by the tests in a process of its own: trains in forked children, kills them, and runs them in pairs.

Forking after torch is loaded makes a run cost its own time only. A child kills itself with SIGKILL at a random amount
of work done, so that no clock decides where: at a call of the loss, while the state is being written, between the
state and the card, or right after.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from small import Mean, Net, Vectors, recipe

from modalign.core.files import cards
from modalign.tune.loop import train

WORK = Path(sys.argv[1])
torch.set_num_threads(1)  # a child of a process with threads of OpenMP would wait for them for ever


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def start(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """The signal that ended the child, 0 if it ran to its end."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a child failed, see above"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def run(out: Path, folder: Path | None, options: dict, every: int | None, death: tuple[str, int] | None = None) -> None:
    net, calls, written = Net(), 0, 0
    where, when = death or ("never", 0)
    write = cards.write

    def loss(batch):
        nonlocal calls
        calls += 1
        if where == "loss" and calls == when:
            die()
        return net.loss(batch)

    def write_or_die(path, data):
        nonlocal written
        written += 1
        if where == "half written" and written == when:
            half = (data.encode() if isinstance(data, str) else data)[: len(data) // 2]
            path.with_name(".modalign-0123456789abcdef.tmp").write_bytes(half)
            die()
        write(path, data)
        if where == "written" and written == when:  # odd: between the state and the card; even: after the card
            die()

    cards.write = write_or_die
    seconds = 0.0 if every is None else 60.0
    history = train(net, loss, Vectors(), recipe(**options), checkpoint=folder, every=every, seconds=seconds)
    numbers = {name: t.detach().numpy() for name, t in net.state_dict().items()}
    losses = [[e.loss, e.rate, e.terms["cross"]] for e in history.epochs]
    np.savez(out, losses=losses, resumed=history.resumed_from, **numbers)


def same(a: Path, b: Path) -> bool:
    with np.load(a) as x, np.load(b) as y:
        return all(x[name].tobytes() == y[name].tobytes() for name in x.files if name != "resumed")


def kill(options: dict, every: int | None, deaths: list[tuple[str, int]], name: str) -> list:
    whole = WORK / f"{name}.npz"
    assert ended(start(lambda: run(whole, None, options, every))) == 0
    results = []
    for trial, death in enumerate(deaths):
        folder, out = WORK / f"{name}-{trial}", WORK / f"{name}-{trial}.npz"
        killed = []
        for again in range(1 + trial % 2):  # every second is killed twice, the second time at once
            moment = (death[0], 1 if again else death[1])
            killed.append(
                ended(start(lambda m=moment, f=folder, o=out: run(o, f, options, every, m))) == signal.SIGKILL
            )
        assert ended(start(lambda f=folder, o=out: run(o, f, options, every))) == 0
        files = sorted(p.name for p in folder.iterdir())
        results.append([all(killed), same(whole, out), int(np.load(out)["resumed"]), len(files)])
    return results


def together(count: int, options: dict) -> dict:
    """``count`` processes as torchrun starts them, beside one alone."""

    def work(out: Path, rank: int) -> None:
        if count > 1 and rank >= 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        net = Mean()
        if rank > 0:
            with torch.no_grad():
                net.weight.add_(1)  # the first process's start must win
        history = train(net, net.loss, Vectors(noise=0.1), recipe(**options))
        np.savez(out, losses=history.losses, weight=net.weight.detach(), bias=net.bias.detach())

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = WORK / "alone.npz"
    assert ended(start(lambda: work(alone, -1))) == 0
    outs = [WORK / f"rank{rank}.npz" for rank in range(count)]
    children = [start(lambda o=out, r=rank: work(o, r)) for rank, out in enumerate(outs)]
    assert [ended(child) for child in children] == [0] * count
    found = [np.load(out) for out in (alone, *outs)]
    apart = max(float(np.abs(f[name] - found[0][name]).max()) for f in found[1:] for name in found[0].files)
    return {"equal": all(same(outs[0], out) for out in outs), "apart": apart}


if __name__ == "__main__":
    dice = random.Random(0)
    sgd = {"accumulate": 2}  # 4 epochs of 4 steps, 2 calls of the loss each, the last of an epoch of 5 images
    adamw = {"optimizer": "adamw", "schedule": "cosine by step", "clip": 0.5, "undecayed": ("bias",)}
    half = {"precision": "bfloat16", "drop_last": True}
    for number, options in enumerate((sgd, adamw, half)):  # torch imports much when it is first used
        run(WORK / "warm.npz", WORK / f"warm{number}", options, 1)
    found = {
        "sgd": kill(sgd, 1, [("loss", dice.randint(2, 31)) for _ in range(2)], "sgd"),
        "adamw": kill(adamw, 3, [("loss", dice.randint(2, 15)) for _ in range(3)], "adamw"),
        "by time": kill(sgd, None, [("loss", dice.randint(2, 31)) for _ in range(2)], "time"),
        "half": kill(half, 2, [("loss", dice.randint(2, 11)) for _ in range(2)], "half"),
        "written": kill(sgd, 1, [("written", dice.randint(2, 30)) for _ in range(3)], "written"),
        "half written": kill(sgd, 1, [("half written", dice.randint(2, 30)) for _ in range(3)], "torn"),
        "two": together(2, {}),
        "three, in parts, clipped": together(3, {"accumulate": 2, "clip": 0.5}),
    }
    print(json.dumps(found))
