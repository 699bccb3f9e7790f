"""Two processes train what one trains; the first one prints and saves; a missing partner is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from two_processes import fit_gpua, train_all

import modalign as ma
from modalign.data.digits import load_digits
from modalign.methods import TOWER_METHODS

COUPLED = ("fair", "dpa_like")  # a term of their loss is a mean over the batch, of which a process sees its part
SMALL_GRADIENTS = ("clip_lora",)  # A has none but rounding in the first step, which AdamW scales to its learning rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave behind."""
    root = tmp_path_factory.mktemp("two")
    digits = load_digits().select(range(20))
    for i in range(20):
        place = root / "photos" / digits.class_names[digits.labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(digits.read(i))
    given = os.environ | {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "MODALIGN_CACHE": str(root / "cache")}
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(root), str(root / "photos")]
    started = [
        subprocess.Popen(command, env=given | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    ended = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    return root


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return train_all()


@pytest.mark.parametrize("name", TOWER_METHODS)
def test_two_processes_learn_what_one_learns(name: str, folder: Path, alone: dict[str, Any]) -> None:
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    near = 1e-3 if name in (*COUPLED, *SMALL_GRADIENTS) else 1e-6
    assert set(first) == set(alone[name].tensors_)
    for key, value in alone[name].tensors_.items():
        assert torch.equal(first[key], second[key]), key
        assert (first[key] - value).abs().max() < near, key


def test_gpua_over_torch_distributed_is_that_of_one_process(folder: Path) -> None:
    first, second = (load_file(folder / f"gpua-{rank}.safetensors")["weight"] for rank in (0, 1))
    assert torch.equal(first, second)
    rows = torch.cat([torch.arange(rank, len(few_rows()), 2) for rank in (0, 1)])
    assert (first - fit_gpua(rows.numpy()).weight_).abs().max() < 1e-5


def few_rows() -> Any:
    from modalign.testing import few_shot_problem

    return few_shot_problem()[4]


def told(folder: Path, rank: int) -> dict[str, Any]:
    return json.loads((folder / f"told-{rank}.json").read_text())


def test_the_first_process_prints_and_saves(folder: Path) -> None:
    first, second = told(folder, 0)["fit"], told(folder, 1)["fit"]
    assert (first["code"], second["code"]) == (0, 0)
    assert json.loads(first["out"])["record"]["images"]["train"] == 20
    assert second["out"] == second["err"] == ""
    assert ma.load(folder / "model").class_names


def test_a_method_on_vectors_is_refused_by_each(folder: Path) -> None:
    first, second = told(folder, 0)["vectors"], told(folder, 1)["vectors"]
    assert (first["code"], second["code"]) == (2, 2)
    assert "start it without torchrun" in first["err"]
    assert second["err"].startswith("process 1: error: ")
    assert not (folder / "gda").exists()


def test_a_process_whose_partner_has_ended_reports_it(folder: Path) -> None:
    alone = told(folder, 0)["alone"]
    assert alone["code"] == 1
    assert "Process 0 of 2 cannot continue: another one failed or was ended" in alone["err"]
    assert alone["err"].count("\n") == 1
    assert not (folder / "alone").exists()
