"""A comparison with several processes can be called from a plain script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numpy as np
import modalign as ma

print("started")
rng = np.random.default_rng(0)
labels = np.arange(320) % 2
text = np.eye(2, 64, dtype=np.float32)
vectors = rng.normal(size=(320, 64)).astype(np.float32) + text[labels]  # more than the buffer of a pipe
features = ma.Features(vectors, labels=labels, class_names=["cat", "dog"])
found = ma.compare(
    features, text=ma.ClassText(text, ["cat", "dog"]), methods=["zero_shot", "gda"], shots=(0, 1, 2), seeds=4, jobs=2
)
print(found.methods)
"""


def test_a_script_without_a_main_guard_is_not_run_again_by_the_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["started", "('zero_shot', 'gda')"]
