"""A package with one method and one entry point, installed as pip does, works wherever a method of the library does."""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from drawings import draw

from modalign.core.errors import InputError
from modalign.model.persistence import load_model

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tests" / "plugin" / "nearest_mean"

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import modalign as ma
from modalign import cli
from modalign.testing import check_method

photos, out = map(Path, sys.argv[1:])

def run(*arguments):
    print("$", *arguments[:2])
    assert cli.run(list(map(str, arguments))) == 0, arguments

run("list")
run("list", "nearest-mean")
run("fit", photos, "--method", "nearest_mean", "--set", "alpha=0.25", "--shots", 4, "--out", out / "fitted")
run("predict", out / "fitted", photos / "disc" / "7.png")
run("compare", photos, "--shots", "0,2", "--seeds", 2, "--methods", "zero_shot,Nearest-Mean", "--page", out / "c.html")

model = ma.load(out / "fitted")
NearestMean = type(model.method)
assert NearestMean.__module__ == "nearest_mean" and model.method.alpha == 0.25
again = ma.load(ma.adapt(photos, method=NearestMean(alpha=0.25), shots=4).save(out / "adapted"))
np.testing.assert_array_equal(again.predict(photos).probabilities, model.predict(photos).probabilities)
pool = ma.adapt(photos, method="auto", candidates=("nearest_mean", "tip_adapter"), shots=4)
assert "nearest_mean" in [row["name"] for row in pool.record["candidates"]]
pool.save(out / "pool")
check_method("nearest_mean")
check_method(NearestMean(alpha=0.0))
assert NearestMean.__name__ not in ma.__all__
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the script prints with the package installed, and the folder that it writes into."""
    root = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PACKAGE, root / "source")  # setuptools builds in place
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    site, out = root / "site", root / "out"
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, source], check=True)
    paths = filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"), str(site)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MODALIGN_CACHE": str(root / "cache")}
    command = [sys.executable, "-c", SCRIPT, draw(root / "photos"), out]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=root)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, out


def test_it_is_listed_beside_the_methods_of_the_library(session: tuple[str, Path]) -> None:
    listed, own = re.split(r"^\$ .*\n", session[0], flags=re.MULTILINE)[1:3]
    assert re.search(r"^cmm ", listed, flags=re.MULTILINE)
    assert re.search(
        r"^nearest_mean +Nearest mean +on vectors +needed +optional +package nearest-mean 0\.1; Snell, .*$",
        listed,
        flags=re.MULTILINE,
    )
    assert re.search(r"^alpha +float in \[0, 1\] +0\.5 +Weight α of the text\.$", own, flags=re.MULTILINE)


def test_fit_predict_and_compare_use_it(session: tuple[str, Path]) -> None:
    fitted, predicted, compared = re.split(r"^\$ .*\n", session[0], flags=re.MULTILINE)[3:6]
    assert fitted.startswith("NearestMean on tiny: 2 classes")
    assert "7.png" in predicted
    assert "Nearest mean" in compared
    page = (session[1] / "c.html").read_text(encoding="utf-8")
    assert "text alone" in page  # its ablation


def test_the_card_names_the_method_and_the_package_and_holds_no_code(session: tuple[str, Path]) -> None:
    card = json.loads((session[1] / "adapted" / "card.json").read_text(encoding="utf-8"))
    assert card["method"] == "nearest_mean"
    assert card["versions"]["methods"] == {"nearest_mean": "nearest-mean 0.1"}
    assert "NearestMean" not in json.dumps(card["state"])


@pytest.mark.parametrize("folder", ["fitted", "pool"])
def test_loading_names_a_missing_package(session: tuple[str, Path], folder: str) -> None:
    with pytest.raises(InputError, match=r"needs the method 'nearest_mean' of the package nearest-mean 0\.1, which"):
        load_model(session[1] / folder)


def blocks(language: str) -> list[str]:
    """The blocks of code in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_example_that_contributors_read_is_this_package() -> None:
    assert (PACKAGE / "nearest_mean.py").read_text(encoding="utf-8") in blocks("python")
    project = (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
    assert [block for block in blocks("toml") if "entry-points" in block] == [project]


def test_the_example_in_its_docstring_runs() -> None:
    found = spec_from_file_location("example_of_contributing", PACKAGE / "nearest_mean.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look for types
    try:
        found.loader.exec_module(module)
        assert doctest.testmod(module) == (0, 3)
    finally:
        del sys.modules[found.name]
