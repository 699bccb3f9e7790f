"""Seeds are integers from 0 to 2³² − 1: other values are refused before any work, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import modalign as ma
from modalign.audit.auditing import audit_images
from modalign.cli import app
from modalign.core.errors import InputError
from modalign.core.randomness import LARGEST_SEED, require_seed, require_seeds
from modalign.data.digit_pairs import load_digit_pairs
from modalign.data.digits import load_digits
from modalign.evaluate.multi_label_metrics import micro_f1
from modalign.evaluate.paired import compare_pair
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.model.explaining import run_deletion_test
from modalign.report.papers.embedding import embedding_map

BAD = [-1, LARGEST_SEED + 1, 10**20, 1.5, True, "1"]
Y = np.repeat([0, 1], 4)
VECTORS = ma.Features(np.eye(8, dtype=np.float32), tuple("abcdefgh"), Y)
SEEDED: dict[str, Callable[[Any], Any]] = {
    "adapt": lambda seed: ma.adapt(load_digits(), method="gda", random_state=seed),
    "method": lambda seed: ma.GDA(random_state=seed).fit(VECTORS),
    "deletion_test": lambda seed: run_deletion_test(None, None, random_state=seed, limit=1),  # type: ignore[arg-type]
    "audit_images": lambda seed: audit_images("nowhere", random_state=seed),
    "cross_fit": lambda seed: cross_fit(ma.GDA(), VECTORS, random_state=seed),
    "few_shot": lambda seed: ma.few_shot(Y, 1, seed),
    "load_digit_pairs": lambda seed: load_digit_pairs(1, 1, random_state=seed),
    "compare_pair": lambda seed: compare_pair([1, 0], [0, 1], seed=seed),
    "micro_f1": lambda seed: micro_f1(np.eye(2), np.eye(2), random_state=seed),
    "embedding_map": lambda seed: embedding_map(np.eye(8), Y, "ab", seed=seed),
}


@pytest.mark.parametrize("seed", BAD)
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match=r"random_state=… as an integer from 0 to 4294967295, got"):
        require_seed(seed)
    with pytest.raises(InputError, match=r"seeds=… as different integers from 0 to 4294967295"):
        require_seeds([0, seed])


def test_both_ends_none_and_integers_of_numpy_are_seeds() -> None:
    for seed in (None, 0, LARGEST_SEED, np.int64(3), np.uint32(LARGEST_SEED)):
        require_seed(seed)
    require_seeds([0, LARGEST_SEED])


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.5])
def test_every_function_refuses_it(name: str, seed: Any) -> None:
    with pytest.raises(InputError, match="4294967295"):
        SEEDED[name](seed)


@pytest.mark.parametrize("command", ["explain m a.png", "figures m a", "audit a", "fit a -o m", "studio a"])
@pytest.mark.parametrize("seed", ["-1", "5000000000", "99999999999999999999"])
def test_every_command_refuses_it(command: str, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, [*command.split(), "--seed", seed])
    assert found.exit_code == 2
    assert "--seed" in found.output
    assert not list(tmp_path.iterdir())
