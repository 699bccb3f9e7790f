"""``modalign serve`` under load, and under bodies that are no images: ``python -m bench.serve``.

A server of the embedded encoder on the handwritten digits runs in a process of its own on the loopback address:

- ``latency``: milliseconds per request of one and of 32 clients, beside ``Classifier.predict`` in this process;
- ``memory``: resident memory of the server while it answers 10,000 requests;
- ``fuzz``: 10,000 damaged bodies, single and as forms, with parameters of all kinds; none may be answered with 500;
- ``schema``: requests that schemathesis derives from the OpenAPI document.

The exit status is 1 if a request is answered with 500, a connection breaks, the memory grows by more than a tenth, or
schemathesis reports a failure.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

import modalign as ma
from bench.fuzz_mutations import damaged
from bench.machine import machine
from modalign.data.digits import load_digits

CLIENTS, WARM_UP = 32, 200
PARTS = ("latency", "memory", "fuzz", "schema")
ANY_BYTES = "positive_data_acceptance"  # the schema allows any bytes, and most are no image
PNG = {"content-type": "image/png"}
KINDS = (
    "image/png",
    "application/octet-stream",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "text/plain",
    "",
)
QUERIES = ("", "?top=3", "?top=0", "?top=99999999999999999999", "?reject=0.05", "?reject=nan", "?reject=-1", "?top=%00")
Shot = Callable[[httpx2.Client, int], httpx2.Response]


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process number of a running server."""
    model = ma.adapt(load_digits(), method="gda", shots=16, mirror=False).save(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "modalign.cli", "serve", str(model), "--port", str(port)])
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx2.get(f"{base}/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield base, process.pid
    finally:
        process.terminate()
        process.wait(60)


def shoot(base: str, shot: Shot, count: int, clients: int) -> tuple[list[float], Counter[int]]:
    """Seconds of ``count`` requests of ``clients`` at a time, and how often each status was the answer."""

    def client(number: int) -> list[tuple[float, int]]:
        found = []
        with httpx2.Client(base_url=base, timeout=120) as session:
            for i in range(number, count, clients):
                started = time.perf_counter()
                status = shot(session, i).status_code
                found.append((time.perf_counter() - started, status))
        return found

    with ThreadPoolExecutor(clients) as pool:
        results = [entry for part in pool.map(client, range(clients)) for entry in part]
    return [seconds for seconds, _ in results], Counter(status for _, status in results)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    p50, p99 = 1000 * np.quantile(seconds, (0.5, 0.99))
    return {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}


def latency(base: str, folder: Path, count: int) -> dict[str, Any]:
    """Milliseconds per image of the bare model, and of the server with one and with many clients."""
    digits = load_digits()
    images = [digits.read(i) for i in range(len(digits))]
    model = ma.load(folder / "model", encoder=ma.load_encoder("tiny", cache=False))
    bare = []
    for i in range(WARM_UP + count):
        started = time.perf_counter()
        model.predict([images[i % len(images)]])
        bare.append(time.perf_counter() - started)
    found = {"bare": quantiles(bare[WARM_UP:])}

    def shot(client: httpx2.Client, i: int) -> httpx2.Response:
        return client.post("/v1/predict", content=images[i % len(images)], headers=PNG)

    for clients in (1, CLIENTS):
        started = time.perf_counter()
        seconds, statuses = shoot(base, shot, count, clients)
        rate = count / (time.perf_counter() - started)
        found[f"{clients} clients"] = quantiles(seconds) | {"requests_per_s": round(rate), "statuses": dict(statuses)}
    return found


def memory(base: str, process: int, count: int) -> dict[str, Any]:
    """Resident memory of the server in MB before, during and after ``count`` requests."""
    data = load_digits().read(0)

    def shot(client: httpx2.Client, _: int) -> httpx2.Response:
        return client.post("/v1/predict", content=data, headers=PNG)

    shoot(base, shot, WARM_UP, CLIENTS)
    resident = [_resident(process)]
    for _ in range(5):
        shoot(base, shot, count // 5, CLIENTS)
        resident.append(_resident(process))
    return {"requests": count, "resident_mb": resident, "growth": round(resident[-1] / resident[0] - 1, 3)}


def fuzz(base: str, count: int, seed: int) -> dict[str, Any]:
    """Statuses of damaged bodies."""
    bodies = list(_bodies())

    def shot(client: httpx2.Client, i: int) -> httpx2.Response:
        dice = random.Random(f"{seed} {i}")
        body, kind = damaged(dice.choice(bodies), dice), dice.choice(KINDS)
        if dice.random() < 0.5:
            kind = KINDS[2] if b"--b" in body else KINDS[0]
        path = f"/v1/{dice.choice(('predict', 'embed'))}{dice.choice(QUERIES)}"
        return client.post(path, content=body, headers={"content-type": kind} if kind else {})

    _, statuses = shoot(base, shot, count, 8)
    return {"bodies": count, "seed": seed, "statuses": dict(sorted(statuses.items()))}


def schema(base: str, examples: int) -> dict[str, Any]:
    """Results of schemathesis for the server."""
    command = [shutil.which("schemathesis") or "schemathesis", "run", f"{base}/openapi.json"]
    done = subprocess.run(
        [*command, "--max-examples", str(examples), "--seed", "0", "--exclude-checks", ANY_BYTES],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "status": done.returncode,
        "said": [line.strip() for line in done.stdout.splitlines() if line.strip()][-12:],
    }


def _bodies() -> Iterator[bytes]:
    """Images of several formats, and a form of three images."""
    noise = Image.effect_noise((40, 30), 80).convert("RGB")
    files = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        file = io.BytesIO()
        noise.save(file, kind)
        files.append(file.getvalue())
    yield from files
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n'
    parts = [head % i + data + b"\r\n" for i, data in enumerate(files[:3])]
    yield b"".join(parts) + b"--b--\r\n"


def _resident(process: int) -> float:
    """Resident memory of a process in MB."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return round(int(text.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def main() -> int:
    """Print the measurements as JSON; 1 if something is not as required."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="one part (repeatable); all by default")
    parser.add_argument("--requests", type=int, default=1000, help="of the latency, per number of clients")
    parser.add_argument("--many", type=int, default=10_000, help="requests of the memory, and damaged bodies")
    parser.add_argument("--examples", type=int, default=50, help="of schemathesis, per operation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (base, process):
        parts = {
            "latency": lambda: latency(base, Path(folder), options.requests),
            "memory": lambda: memory(base, process, options.many),
            "fuzz": lambda: fuzz(base, options.many, options.seed),
            "schema": lambda: schema(base, options.examples),
        }
        for name in options.only or PARTS:
            started = time.perf_counter()
            found[name] = parts[name]() | {"seconds": round(time.perf_counter() - started)}
            print(json.dumps({name: found[name]}, indent=1), flush=True)
    failed = [
        500 in found.get("fuzz", {}).get("statuses", {}),
        found.get("memory", {}).get("growth", 0) > 0.1,
        bool(found.get("schema", {}).get("status", 0)),
    ]
    print(found["machine"])
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
