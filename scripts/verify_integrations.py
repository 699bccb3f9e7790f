"""Compare encoders with open_clip and transformers on the same weights, in a separate environment.

open_clip requires torchvision, and torchvision requires another torch than the pinned one. This script creates a
virtual environment with the newest torch in the given folder (6 GB, a few minutes; reused if it exists) and runs
``compare_integrations.py`` in it. With ``--suite`` it runs the tests there, for another version of Python. ``make
test`` does not need it.

    python scripts/verify_integrations.py ../integrations --out docs/results/integrations.md
    python scripts/verify_integrations.py ../python3.13 --python python3.13 --suite
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("open_clip_torch", "timm", "torchvision", f"{ROOT}[dev]")


def main() -> int:
    """Create the environment if it does not exist, compare or test in it, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("environment", type=Path, help="folder of the virtual environment")
    parser.add_argument("--python", default=sys.executable, help="interpreter to make it with")
    parser.add_argument("--suite", action="store_true", help="run the tests instead, at the locked versions")
    parser.add_argument("--out", type=Path, help="page to write the figures to")
    options = parser.parse_args()
    python = options.environment.absolute() / "bin" / "python"
    if not python.exists():
        locked = ("-c", str(ROOT / "constraints.txt"), f"{ROOT}[dev]") if options.suite else PACKAGES
        subprocess.run([options.python, "-m", "venv", options.environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *locked], check=True)
    compare = [str(ROOT / "scripts" / "compare_integrations.py"), *(["--out", str(options.out)] if options.out else [])]
    command = ["-m", "pytest", "-n", "auto", "--dist", "worksteal"] if options.suite else compare
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    settings = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([python, *command], cwd=ROOT, env=os.environ | settings, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
