"""``modalign compare`` on real CLIP ViT-B/32 features: ``python -m bench.real_compare``.

Caltech101, the 68 classes that have a text vector: training images are drawn for every seed from the validation list,
choices are made on other images of it, and everything is tested on the test list. With ``--second`` the image vectors
of a vision-only network and of CLIP are used together (``clip_encoder``)."""

from __future__ import annotations

import json
import sys

import numpy as np

from bench.accuracy import Dataset, command, parse
from modalign.core.features import ClassText, Features
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.comparison.findings import title
from modalign.evaluate.comparison.result import MethodComparison
from modalign.report.comparison_page import check_page, save_comparison_page

METHODS = "zero_shot,linear_probe,gpua,lfa,tip_adapter,tip_adapter_f,transclip,cma"


def load(second: bool) -> tuple[Features, ClassText, Features | None, Split]:
    """Images of both lists concatenated, class text, CLIP's features if the space is another, and the lists."""
    data = Dataset.load("caltech101")
    (X, y), (Xt, yt) = data.parts["val"], data.parts["test"]
    clip, labels, names = np.concatenate([X, Xt]), np.concatenate([y, yt]), data.class_names
    rows = np.arange(len(clip))
    lists = Split(
        rows[: len(X)], test=rows[len(X) :], description="drawn from the validation list, tested on the test list"
    )
    text = ClassText(data.text, names)
    features = Features(clip, labels=labels, class_names=names)
    if not second:
        return features, text, None, lists
    vision = np.concatenate([data.second["val"], data.second["test"]])
    vision /= np.linalg.norm(vision, axis=1, keepdims=True)
    both = Features(np.concatenate([vision, clip], axis=1), labels=labels, class_names=names)
    return both, text, features, lists


def show(result: MethodComparison) -> None:
    """The table, significant differences, ablations and costs."""
    for row in (result.header, *result.rows):
        print("".join(f"{cell:>17}" if i else f"{cell:34}" for i, cell in enumerate(row)))
    print(*(v.sentence for v in result.verdicts if v.kind == "runner-up"), sep="\n")
    for a in result.ablations:
        points = f"{100 * a.comparison.difference:+.1f} points, {a.comparison.verdict}"
        print(f"{title(a.method):34}{a.ingredient:20}{a.shots:>4}  {a.accuracy} → {a.without} ({points})")
    for c in result.costs:
        memory = "" if c.peak_bytes is None else f"{c.peak_bytes / 2**20:.0f} MiB"
        speed = f"fit {c.fit_seconds:.2f} s, {c.n_test} images {c.predict_seconds:.3f} s"
        print(f"{title(c.method):34}{c.shots:>4}  {speed} {memory}")
    print(*result.remarks, f"{result.record['seconds']} s", sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = command("real_compare", __doc__)
    parser.add_argument("--methods", default=METHODS, help="names with commas; without what takes many minutes")
    parser.add_argument("--shots", default="0,1,4,16", help="labeled images per class, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many draws")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--second", action="store_true", help="two spaces, CLIP as anchor")
    parser.add_argument("--no-ablations", dest="ablations", action="store_false", help="only the methods as they are")
    parser.add_argument("--page", help="one HTML page")
    options = parse(parser, arguments)
    if options.page:
        check_page(options.page)
    features, text, anchor, lists = load(options.second)
    shots = [k if k == "all" else int(k) for k in options.shots.split(",")]
    result = compare(
        features, text=text, clip_encoder=anchor, split=lists, methods=options.methods.split(","), shots=shots,
        seeds=options.seeds, jobs=options.jobs, ablations=options.ablations,
    )  # fmt: skip
    if options.page:
        save_comparison_page(result, options.page)
    print(json.dumps(result.as_dict(), indent=1)) if options.json else show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
