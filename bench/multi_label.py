"""Several classes per image, on pictures of two handwritten digits: ``python -m bench.multi_label``.

A row per method and number of labeled pairs: mean average precision and F1 on 600 pairs of other digits, with 95 %
bootstrap intervals over these pairs, and processor seconds of the fit.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from bench.machine import machine
from modalign.data.digit_pairs import load_digit_pairs
from modalign.evaluate.multi_label_metrics import share_in_words
from modalign.model.multi_label import adapt_multi_label

METHODS = ("zero_shot", "gda", "tip_adapter", "linear_probe", "cmm", "auto")
HEADER = (
    "method",
    "labeled pairs",
    "mean average precision, %",
    "micro F1, %",
    "macro F1, %",
    "exactly right sets, %",
    "s",
)


def main() -> int:
    """Print a table in Markdown, row by row."""
    parser = argparse.ArgumentParser(prog="python -m bench.multi_label", description=__doc__.split("\n\n")[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--pairs", nargs="+", type=int, default=[50, 100, 400])
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pairs = load_digit_pairs(max(options.pairs), options.test, random_state=options.seed)
    test = np.flatnonzero(pairs.items.parts == "test")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    for method in options.methods:
        for count in options.pairs:
            source = pairs.select([*range(count), *test])
            started = time.process_time()
            model = adapt_multi_label(source, method=method, random_state=options.seed)
            seconds = time.process_time() - started
            found = model.evaluate(source).scores
            shares = [share_in_words(share).replace(" %", "") for share in found.totals.values()]
            print(f"| {method} | {count} | {' | '.join(shares)} | {seconds:.1f} |", flush=True)
    print(f"\n{machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
