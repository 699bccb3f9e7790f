"""Measurements of the studio: ``python -m bench.studio active``, ``kill``, ``kill-servers`` or ``state``.

``active`` labels digits through a session, once with the images that the studio selects and once with images drawn at
random, and tests on the images that are labeled in neither. ``kill`` labels and kills the process (``kill -9``) before
or during the refit; ``kill-servers`` does so over HTTP, right after the answer. ``state`` takes the processor time of
the answers of a session with generated vectors."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modalign.app.studio.acquire import ACQUISITIONS
from modalign.app.studio.exam import exam_limit
from modalign.app.studio.gallery import Gallery, content_hashes_of
from modalign.app.studio.label_log import LabelLog
from modalign.app.studio.labeling import Labeling
from modalign.app.studio.opening import open_session
from modalign.app.studio.row_queries import RowQuery, find_rows, row_entries, session_summary
from modalign.app.studio.session import Session, SessionSettings
from modalign.cli import run
from modalign.core.features import Features
from modalign.core.files import append_line
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.data.text.templates import DIGIT_TEMPLATES
from modalign.encoders import load_encoder

LABELS, ROUND = 40, 10
PORT = 8399


def label_by(items: Items, by: str, seed: int, folder: Path) -> tuple[Session, list[int]]:
    """A session with 40 training labels, requested in rounds of 10; the exam is answered too."""
    session = open_session(items, state=folder, seed=seed, thorough=False, templates=tuple(DIGIT_TEMPLATES))
    taught: list[int] = []
    while len(taught) < LABELS:
        rows = [row for row in session.next_rows(by, 20) if not session.labeling.reserved[row]]
        rows = rows[: min(ROUND, LABELS - len(taught))]
        for row in rows:
            session.labeling.label([row], int(items.labels[row]))
        taught += rows
        session.refit_now()
    return session, taught


def active(seeds: int, record: Path) -> None:
    """Accuracy in percent of zero-shot and of 40 labels, on the images that no acquisition has labeled.

    Every seed is a line of ``record``; those that are there are not run again.
    """
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    for seed in range(len(done), seeds):
        done.append(one_seed(seed))
        append_line(record, json.dumps(done[-1]).encode())
    rows = {kind: [line[kind] for line in done] for kind in done[0]}
    for kind, found in rows.items():
        print(f"{kind:32} {_interval(found)}")
    for kind, found in rows.items():
        if kind.startswith("both"):
            other = rows[kind.replace("both", "random")]
            print(f"{kind} minus random: {_interval(np.subtract(found, other).tolist())}")


def one_seed(seed: int) -> dict[str, float]:
    """What every acquisition reaches, with the answers of the refit at once and, for two of them, of auto."""
    items, rules = load_digits(), [by for by in ACQUISITIONS if by != "exam"]
    with tempfile.TemporaryDirectory() as name:
        runs = {by: label_by(items, by, seed, Path(name) / by) for by in rules}
        rest = np.setdiff1d(np.arange(len(items)), [row for _, taught in runs.values() for row in taught])
        first = runs["both"][0].first
        found = {"images": float(len(rest)), "zero-shot": share(first.probabilities.argmax(axis=1), items, rest)}
        for by, (session, _) in runs.items():
            for thorough in (False, True) if by in ("both", "random") else (False,):
                answers = session.refit_now(thorough=thorough)
                kind = f"{by}, {'auto' if thorough else answers.method}"
                found[kind] = share(answers.probabilities.argmax(axis=1), items, rest)
            session.close()
    return found


def share(predicted: np.ndarray, items: Items, rows: np.ndarray) -> float:
    """Percent of the rows that are right."""
    return float(100 * (predicted == items.labels)[rows].mean())


def _interval(values: list[float]) -> str:
    """Mean over runs and its Student interval."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{np.mean(values):.1f} ± {half:.1f} ({len(values)} runs)"


def kill(rounds: int) -> None:
    """Kills at random moments after a label, most of them before or during the refit; counts lost labels.

    Sessions run in forked processes, which open the same folder one after the other.
    """
    items, encoder, folder = load_digits().select(range(200)), load_encoder("tiny"), Path(tempfile.mkdtemp())
    features, contents = encoder.embed_images(items), content_hashes_of(items, None)
    rng = np.random.default_rng(0)

    def opened() -> Session:
        labeling = Labeling(items.ids, contents, LabelLog(folder), 0, exam_limit(contents, 0))
        for name in items.class_names if not labeling.state.ever else ():
            labeling.add_class(name, by="start")
        gallery = Gallery(items, contents, folder / "thumbnails")
        return Session(features, labeling, gallery, encoder, SessionSettings("digits", thorough=False))

    lost = broken = 0
    for row in range(rounds):
        delay = float(rng.choice([0.0, rng.uniform(0.1, 0.4)]))  # a refit begins after 0.1 s
        child = os.fork()
        if not child:
            try:
                session = opened()
                given = session.labeling.labels[:row] == items.labels[:row]
                if not given.all():
                    os._exit(2)
                session.change(lambda labeling, row=row: labeling.label([row], int(items.labels[row])))
                time.sleep(delay)
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        ended = os.waitpid(child, 0)[1]
        lost += os.WIFEXITED(ended) and os.WEXITSTATUS(ended) == 2
        broken += os.WIFEXITED(ended) and os.WEXITSTATUS(ended) == 1
    found = opened().labeling.labels[:rounds] == items.labels[:rounds]
    print(f"{rounds} kills, {lost + int((~found).sum())} labels lost, {broken} sessions that did not open")
    shutil.rmtree(folder)


def kill_servers(rounds: int, folder: Path) -> None:
    """Kills after a label that a server has answered; counts lost labels.

    The server runs in a forked process, after everything is imported once. A second call on the same folder goes on.
    """
    photos, names, record = folder / "digits", folder / "names.txt", folder / "given.json"
    if not record.exists():
        photos.mkdir(parents=True)
        items = load_digits().select(range(600))
        for i in range(len(items)):
            (photos / f"{i:03d}.png").write_bytes(items.read(i))
        names.write_text("\n".join(items.class_names))
        record.write_text("[]")
    given: list[int] = json.loads(record.read_text())
    lost = broken = 0
    for _ in range(rounds):
        row = len(given)
        server = os.fork()
        if not server:
            try:
                run(["studio", str(photos), "--classes", str(names), "--port", str(PORT)])
            finally:
                os._exit(1)
        try:
            found = _patiently(f"http://127.0.0.1:{PORT}/", row)
            lost += sum(entry["label"] != given[entry["row"]] for entry in found)
            _ask(f"http://127.0.0.1:{PORT}/", "api/label", {"rows": [row], "of": row % 10})
            given.append(row % 10)
        except OSError:
            broken += 1
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        record.write_text(json.dumps(given))
    print(f"{len(given)} kills, {lost} labels lost and {broken} studios that did not open in the last {rounds}")


def _patiently(url: str, n: int) -> list[dict[str, Any]]:
    """The first n images as the server has them, once it answers."""
    for _ in range(400):
        try:
            return list(_ask(url, "api/entries", {"rows": list(range(n))})["entries"])
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(url)


def _ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json", "x-modalign": "1"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def state(n: int, width: int, classes: int) -> None:
    """Processor milliseconds of the answers of a session with n images."""
    session, folder = generated_session(n, width, classes)
    rng = np.random.default_rng(0)
    for k in range(classes):
        rows = rng.choice(n, n // (5 * classes), replace=False).tolist()
        session.labeling.label(rows, k)
    started = time.process_time()
    session.refit_now()
    print(f"refit to {int(session.labeling.taught.sum())} labels: {time.process_time() - started:.1f} s")
    works: dict[str, Callable[[], object]] = {
        "state": lambda: session_summary(session),
        "rows by uncertainty, first 200": lambda: row_entries(
            session, find_rows(session, RowQuery(order="uncertain"))[:200].tolist()
        ),
        "rows similar to one, first 200": lambda: row_entries(
            session, find_rows(session, RowQuery(order="similar", to=5))[:200].tolist()
        ),
        "next 10, both": lambda: session.next_rows("both", 10),
        "next 10, diverse": lambda: session.next_rows("diverse", 10),
        "a label, on the disk": lambda: session.labeling.label([7], 1),
    }
    for name, work in works.items():
        times = []
        for _ in range(7):
            started = time.process_time()
            work()
            times.append(1000 * (time.process_time() - started))
        print(f"{name:32} {np.median(times):6.1f} ms")
    session.close()
    shutil.rmtree(folder)


def generated_session(n: int, width: int, classes: int) -> tuple[Session, Path]:
    """A session with unit vectors around class centers; its images are never opened."""
    rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    X = rng.normal(size=(classes, width))[rng.integers(classes, size=n)] + 2 * rng.normal(size=(n, width))
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    ids, contents = tuple(f"{i:06d}.jpg" for i in range(n)), [f"{i:016x}" for i in range(n)]
    log = LabelLog(folder)
    labeling = Labeling(ids, contents, log, 0, exam_limit(contents, 0))
    for k in range(classes):
        labeling.add_class(f"class {k}", by="start")
    encoder = load_encoder("tiny-vision")  # reads no text
    items = Items(ids, load_digits().blobs[:1] * n)
    gallery = Gallery(items, contents, folder / "thumbnails")
    return Session(Features(X), labeling, gallery, encoder, SessionSettings("generated", thorough=False)), folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("active", "kill", "kill-servers", "state"))
    parser.add_argument("--runs", type=int, default=3, help="runs of active")
    parser.add_argument("--rounds", type=int, default=100, help="kills")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "modalign-studio")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=20)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    if given.what == "active":
        active(given.runs, given.folder / "active.jsonl")
    elif given.what == "kill":
        kill(given.rounds)
    elif given.what == "kill-servers":
        kill_servers(given.rounds, given.folder)
    else:
        state(given.images, given.width, given.classes)


if __name__ == "__main__":
    main()
