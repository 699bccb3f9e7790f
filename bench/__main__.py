"""Run the benchmarks that need no other data, with short settings: ``python -m bench``; ``--list`` lists them.

Each runs in its own process. A benchmark that misses its requirement does not stop the others; the exit status is then
1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

SHORT = {
    "speed linalg": "transport and Procrustes beside the plain form",
    "speed methods": "few-shot methods beside the plain form",
    "speed gpua": "GPUA's update beside the textbook",
    "label_free --datasets digits --kinds even natural --methods anchored_gaussian gpua --seeds 1":
        "accuracy without labels, on the handwritten digits",
    "tower --method coop --shots 4 --seeds 1 --epochs 3 --no-ablations --no-new":
        "accuracy of training inside an encoder, on the handwritten digits",
    "fuzz --minutes 0.2": "damaged files of every kind",
    "kill --rounds 1 --only save": "a command killed at random moments",
}  # fmt: skip
"""Arguments of ``python -m bench.…`` → what is measured. Every module without these arguments does more."""

OTHER_DATA = {
    "real": "CMM, LFA and linear probe on CLIP features",
    "real_baselines": "the other methods on CLIP features",
    "real_compare": "``modalign compare`` on CLIP features",
    "real_gpua": "GPUA on CLIP features",
    "few_shot": "docs/results/few_shot.md",
    "label_free": "docs/results/label_free.md",
    "auto_costs": "processor seconds of the candidates of auto",
}
"""Modules that read files of features → what they measure. ``bench/README.md`` describes the files."""


def main(arguments: list[str] | None = None) -> int:
    """Run all of :data:`SHORT`; 1 if one failed or missed what is required."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="print the benchmarks and run nothing")
    options = parser.parse_args(arguments)
    failed = []
    for line, what in SHORT.items():
        print(f"\n== python -m bench.{line}: {what}", flush=True)
        if not options.list:
            name, *rest = line.split()
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", f"bench.{name}", *rest], check=False)
            print(f"-- {time.perf_counter() - started:.0f} s, exit status {done.returncode}", flush=True)
            failed += [line] * bool(done.returncode)
    print("\nBenchmarks on files of CLIP features; bench/README.md describes them:")
    for name, what in OTHER_DATA.items():
        print(f"   python -m bench.{name:15} {what}")
    if failed:
        print(f"\nmissed or failed: {'; '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
