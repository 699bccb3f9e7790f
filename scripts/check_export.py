"""Run an exported folder in a new environment without torch: python scripts/check_export.py FOLDER PHOTO."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import venv
from pathlib import Path

PACKAGES = ("numpy", "pillow", "onnxruntime")


def main() -> None:
    """Create the environment, check that torch is not installed in it, and classify the photo."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("photo", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = str(Path(place, "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0
        subprocess.run([python, given.folder / "predict.py", given.photo.absolute()], check=True)


if __name__ == "__main__":
    main()
