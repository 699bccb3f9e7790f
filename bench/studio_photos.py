"""Waiting times of a studio with many photos: ``python -m bench.studio_photos FOLDER``.

FOLDER holds photos, one folder a class. A server is started twice, first with an empty cache. Then its answers,
thumbnails made and kept, and a page in headless Chromium that is scrolled. Times are wall seconds, and in parentheses
processor seconds of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.machine import machine

PORT, CONNECTIONS = 8398, 6  # a browser opens as many to one server
SCROLL = """(pixels) => new Promise((done) => {
  const grid = [...document.querySelectorAll('.grid')].find((node) => node.clientHeight), gaps = [];
  let last = performance.now(), frames = 0;
  const step = (now) => {
    gaps.push(now - last); last = now; grid.scrollTop += pixels;
    if (++frames < 150) requestAnimationFrame(step); else done(gaps.slice(1));
  };
  requestAnimationFrame(step);
})"""
JUMP = """(share) => new Promise((done) => {
  const grid = [...document.querySelectorAll('.grid')].find((node) => node.clientHeight), began = performance.now();
  grid.scrollTop = share * (grid.scrollHeight - grid.clientHeight);
  const look = () => {
    const box = grid.getBoundingClientRect();
    const seen = [...grid.querySelectorAll('.tile')].filter((tile) => {
      const own = tile.getBoundingClientRect();
      return own.bottom > box.top && own.top < box.bottom;
    });
    const shown = seen.filter((tile) => tile.querySelector('img')?.naturalWidth);
    if (seen.length && shown.length === seen.length) done([performance.now() - began, seen.length]);
    else setTimeout(look, 10);
  };
  setTimeout(look, 10);
})"""


def processor(server: subprocess.Popen[bytes]) -> float:
    """Processor seconds of the server until now."""
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def started(folder: Path, work: Path) -> tuple[subprocess.Popen[bytes], float]:
    """A server that answers, and the seconds until it did."""
    command = [sys.executable, "-m", "modalign.cli", "studio", str(folder), "--state", str(work / "state")]
    began = time.perf_counter()
    server = subprocess.Popen(
        [*command, "--port", str(PORT), "--fast-only"],
        env=os.environ | {"MODALIGN_CACHE": str(work / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        try:
            fetch("api/state")
            return server, time.perf_counter() - began
        except OSError:
            if server.poll() is not None:
                raise RuntimeError("the studio ended") from None
            time.sleep(0.02)


def fetch(path: str, body: dict[str, Any] | None = None) -> bytes:
    """The answer of the server."""
    headers = {"content-type": "application/json", "x-modalign": "1"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def report(server: subprocess.Popen[bytes], what: str, work: Callable[[], object], times: int = 20) -> None:
    """Print median and maximum in milliseconds, and the mean of the processor time."""
    spent, before = [], processor(server)
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began))
    own = 1000 * (processor(server) - before) / times
    print(f"{what:44} {np.median(spent):7.1f} ms, at most {max(spent):.1f} ({own:.1f})", flush=True)


def answers(server: subprocess.Popen[bytes], n: int) -> None:
    """State, rows and a label."""
    report(server, "state", lambda: fetch("api/state"))
    rng = random.Random(0)
    for row in rng.sample(range(n), 40):
        fetch("api/label", {"rows": [row], "of": row % 10})
    time.sleep(3)  # the refit
    report(server, "state with 40 labels", lambda: fetch("api/state"))
    report(server, "100 rows by uncertainty", lambda: fetch("api/rows", {"order": "uncertain"}))
    report(server, "100 rows by a text", lambda: fetch("api/rows", {"order": "text", "text": "a watch"}))
    report(
        server, "all row numbers by uncertainty", lambda: fetch("api/rows", {"order": "uncertain", "only_rows": True})
    )
    report(server, "the next 10", lambda: fetch("api/next"))
    report(server, "a label", lambda: fetch("api/label", {"rows": [7], "of": 1}))


def thumbnails(server: subprocess.Popen[bytes], n: int) -> None:
    """Thumbnails that are made, and the same again."""
    rows = random.Random(1).sample(range(n), 300)
    entries = json.loads(fetch("api/entries", {"rows": rows}))["entries"]
    for what in ("made", "kept"):
        began, before = time.perf_counter(), processor(server)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            sizes = list(pool.map(lambda entry: len(fetch(f"thumb/{entry['content']}.webp")), entries))
        spent, own = time.perf_counter() - began, 1000 * (processor(server) - before) / len(rows)
        print(
            f"thumbnails {what}: {len(rows) / spent:.0f} per second ({own:.1f} ms each), {np.mean(sizes) / 1000:.1f} kB"
        )


def page() -> None:
    """First picture, frames while scrolling, and time until all pictures are there after a jump."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        began = time.perf_counter()
        tab.goto(f"http://127.0.0.1:{PORT}/")
        tab.wait_for_selector(".card img")
        print(f"first picture of the page: {time.perf_counter() - began:.2f} s")
        tab.locator("#tab-browse").click()
        tab.wait_for_selector(".tile img")
        for pixels in (30, 300):
            gaps = np.array(tab.evaluate(SCROLL, pixels))
            shares = np.percentile(gaps, [50, 95, 100])
            print(f"scrolling by {pixels} pixels a frame: {shares[0]:.0f} ms a frame, 95 % under {shares[1]:.0f} ms, "
                  f"longest {shares[2]:.0f} ms")  # fmt: skip
        shares = random.Random(2).sample(range(100), 10)
        for what in ("first", "second"):
            found = [tab.evaluate(JUMP, share / 100) for share in shares]
            spent = [own[0] for own in found]
            print(f"{found[0][1]} pictures in view after a jump, {what} time: {np.median(spent):.0f} ms, "
                  f"at most {max(spent):.0f} ms")  # fmt: skip
        browser.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    n = sum(1 for _ in folder.glob("*/*"))
    with tempfile.TemporaryDirectory() as work:
        for what in ("first", "second"):
            server, spent = started(folder, Path(work))
            print(f"{n} photos, opened the {what} time: {spent:.1f} s ({processor(server):.1f} s)", flush=True)
            try:
                if what == "second":
                    answers(server, n)
                    thumbnails(server, n)
                    page()
            finally:
                server.terminate()
                server.wait()
    print(machine())


if __name__ == "__main__":
    main()
