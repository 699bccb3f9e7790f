"""Write models and exports of this version, with their predictions, for tests of later versions.

    python scripts/make_golden.py tests/golden

A folder is named after its format; existing folders are not changed. Run this when the number of a format changes, and
keep the folders of earlier formats. `tests/test_golden.py` opens all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import modalign as ma
from modalign.data.digit_pairs import load_digit_pairs
from modalign.data.digits import load_digits
from modalign.encoders import Encoder, FeatureStore, Preprocessing
from modalign.export.onnx_folder import FORMAT as GRAPH
from modalign.model.multi_label import adapt_multi_label
from modalign.model.multi_label.multi_label_files import FORMAT as SETS
from modalign.model.persistence.models import FORMAT as MODEL

ASKED = range(200, 220)
"""Digits that are predicted."""
REJECT = 0.2
"""Share of known images that may be rejected."""


class Pooled(Encoder):
    """A convolution, averaged over positions."""

    def _forward(self, inputs: dict[str, Tensor], tokens: bool) -> tuple[Tensor, Tensor | None]:
        maps = self.model(inputs["pixel_values"])
        return maps.mean(dim=(2, 3)), None

    def _width(self) -> int:
        return 24


def small_net(*, device: torch.device, store: FeatureStore | None) -> Encoder:
    """An encoder with random weights whose graph takes 10 kB."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 24, kernel_size=5, stride=3), nn.ReLU()).eval().requires_grad_(False)
    steps = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32,
             "do_center_crop": True, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}  # fmt: skip
    pixels = Preprocessing.read(steps, "small_net")
    return Pooled("small_net", network, pixels, weights_hash="small_net 1", device=device, store=store)


def save_answers(folder: Path, model: ma.Classifier) -> None:
    """Probabilities of the predicted digits, and which are rejected."""
    found = model.predict(load_digits().select(ASKED), reject=REJECT)
    assert found.rejected is not None
    told = {"asked": [ASKED.start, ASKED.stop], "classes": found.class_names, "reject": REJECT}
    told |= {"probabilities": np.round(found.probabilities, 6).tolist(), "rejected": found.rejected.tolist()}
    (folder / "answers.json").write_text(json.dumps(told))


def saved_model(folder: Path) -> None:
    """A classifier on ``tiny``."""
    digits = load_digits()
    model = ma.adapt(digits.select(range(60)), method="gda", encoder="tiny", mirror=False)
    model.save(folder)
    save_answers(folder, model)


def saved_sets(folder: Path) -> None:
    """A multi-label classifier on ``tiny``."""
    model = adapt_multi_label(load_digit_pairs(60, 0), method="gda")
    model.save(folder)
    found = model.predict(load_digits().select(ASKED))
    told = {"asked": [ASKED.start, ASKED.stop], "classes": found.class_names}
    told |= {"probabilities": np.round(found.probabilities, 6).tolist(), "answers": found.answers.tolist()}
    (folder / "answers.json").write_text(json.dumps(told))


def exported(folder: Path) -> None:
    """A graph on a small network."""
    digits = load_digits()
    ma.register_encoder("small_net", small_net)
    model = ma.adapt(digits.select(range(100)), method="linear_probe", encoder="small_net", mirror=False)
    found = ma.export_onnx(model, folder, check=digits.select(ASKED))
    print(found.parity)
    save_printed(folder)


def save_printed(folder: Path) -> None:
    """What ``predict.py`` of an exported folder prints: a name and a probability for each of the predicted digits."""
    with tempfile.TemporaryDirectory() as place:
        photos = [Path(place, f"{i}.png") for i in ASKED]
        for i, photo in zip(ASKED, photos, strict=True):
            photo.write_bytes(load_digits().read(i))
        command = [sys.executable, folder / "predict.py", *photos, "--reject", str(REJECT)]
        out = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    printed = [line.split("\t")[1:] for line in out.splitlines()]
    told = {"asked": [ASKED.start, ASKED.stop], "reject": REJECT, "printed": printed}
    (folder / "answers.json").write_text(json.dumps(told))


def main() -> None:
    """Write the folders that do not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    works: dict[str, Callable[[Path], None]] = {
        f"{MODEL.family}-{MODEL.version}": saved_model,
        f"{SETS.family}-{SETS.version}": saved_sets,
        GRAPH: exported,
    }
    for name, work in works.items():
        if not (root / name).exists():
            with tempfile.TemporaryDirectory(dir=root) as temporary:
                work(Path(temporary) / name)
                (Path(temporary) / name).rename(root / name)


if __name__ == "__main__":
    main()
