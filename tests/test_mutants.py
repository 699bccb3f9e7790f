"""The tool that measures the tests: its faults are Python, and it finds the tests of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.mutant_tests import ROOT, mirrored, stages_of
from bench.mutants import draw, label, read, report
from bench.mutations import mutations, parses

SOURCE = '''"""Docstring with 1 + 1."""
def clipped(x: int = 3) -> int:
    if x < 0 and x != -1:
        raise ValueError(f"{x + 1}")
    return 2 * x
'''


def test_the_mutations_of_a_function() -> None:
    found = {(m.kind, m.line, m.before, m.after) for m in mutations(SOURCE)}
    assert {
        ("constant", 2, "3", "4"),
        ("comparison", 3, "<", "<="),
        ("boolean", 3, "and", "or"),
        ("comparison", 3, "!=", "=="),
        ("statement", 4, 'raise ValueError(f"{x + 1}")', "pass"),
        ("arithmetic", 5, "*", "/"),
    } <= found
    assert {line for _, line, *_ in found} == {2, 3, 4, 5}  # no change of the docstring or of the message
    for mutation in mutations(SOURCE):
        assert parses(mutation.apply(SOURCE))
        assert mutation.apply(SOURCE) != SOURCE


def test_a_draw_holds_python_and_begins_with_a_smaller_one() -> None:
    drawn = draw(6, seed=1, only="linalg/r")
    assert drawn[:3] == draw(3, seed=1, only="linalg/r")
    assert all(parses(mutation.apply((ROOT / name).read_text("utf-8"))) for name, mutation in drawn)


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("linalg/ridge.py", "tests/linalg/test_ridge.py"),
        ("linalg/sweeps/scaling.py", "tests/linalg/test_sinkhorn.py"),  # through solver.py
        ("linalg/sweeps/kernel.py", "tests/linalg/test_plan.py"),
        ("methods/contract/transduction.py", "tests/test_transduction.py"),
        ("methods/baselines/transclip_solver.py", "tests/methods/test_transclip.py"),
        ("methods/gpua/gpua_rows.py", "tests/methods/test_gpua.py"),
    ],
)
def test_the_mirror_of_a_file_is_found(name: str, test: str) -> None:
    assert test in mirrored(Path("src/modalign", name))


@pytest.mark.parametrize("package", ["linalg", "methods"])
def test_every_source_file_has_tests_beside_the_contract(package: str) -> None:
    sources = [path.relative_to(ROOT) for path in (ROOT / "src/modalign" / package).rglob("*.py")]
    for source in sources:
        if source.stem != "__init__":
            files = [test[0] for test in stages_of(str(source))]
            assert set(files) - {"tests/methods/test_contract.py", "tests/test_docs.py"}, source
            assert all((ROOT / file).is_file() for file in files)


def test_the_last_trial_of_a_mutant_counts(tmp_path: Path) -> None:
    name, mutation = draw(1, seed=0, only="linalg/ridge")[0]
    trial = {"mutant": label(name, mutation), "file": name, **vars(mutation), "outcome": "survived"}
    record = tmp_path / "mutants.jsonl"
    record.write_text("".join(json.dumps(trial | {"outcome": outcome}) + "\n" for outcome in ("survived", "killed")))
    (last,) = read(record)
    assert last["outcome"] == "killed"
    assert "| all | 1 | 1 | 0 |" in report([last])
