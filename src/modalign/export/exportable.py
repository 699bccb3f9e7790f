"""Checks before an export: which models cannot be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument, require
from modalign.core.files import check_writable, local_path
from modalign.export.graph import parts_of
from modalign.methods.contract.tower import TowerMethod
from modalign.model.classifier import Classifier

_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of onnxruntime-web that the page needs."""
_FILTERS = {2: "bilinear", 3: "bicubic"}  # numbers of Pillow's filters that predict.js supports


def check_exportable(model: Any) -> Classifier:
    """Return the model if it is a classifier that predicts from one image of fixed size.

    Raises
    ------
    InputError
        It is not a classifier, or its encoder or method cannot be one graph.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        require(name, "onnx")
    if not isinstance(model, Classifier):
        raise InputError(
            f"Expected a classifier of one class per image to export, got {type(model).__name__}; a graph from pixels "
            "to probabilities needs an encoder and a method, as modalign.adapt makes them."
        )
    for part in parts_of(model.encoder):
        step = part.preprocessing
        if step.resize == "patches" or (step.resize == "none" and step.crop is None):
            raise InputError(
                f"Expected an encoder of images of one size, got '{part.name}', which takes every image at a size of "
                "its own; fit with another encoder."
            )
        if step.resize != "none" and step.resample not in _FILTERS:
            raise InputError(
                f"Expected bilinear or bicubic resizing, '{part.name}' resizes with Pillow's filter {step.resample}; "
                "fit with another encoder."
            )
    if not isinstance(model.method, TowerMethod) and model.method.scores_parts and model.crops:
        raise InputError(
            f"Expected a method on whole images, {type(model.method).__name__} also scores {model.crops} "
            f"crops of each; fit without {argument('crops', of='fit')}."
        )
    return model


def check_folder(out: str | Path) -> Path:
    """``out`` as a path, if it can be made and nothing is in it."""
    path = local_path(out)
    check_writable(path, folder=True)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"Expected a new or empty folder to export to, '{path}' holds files; choose another name.")
    return path


def runtime_files(web: str | Path | None) -> list[Path]:
    """The files of onnxruntime-web that the page needs; ``web`` is its folder, its ``dist``, or ``node_modules``."""
    if web is None:
        return []
    root = Path(web)
    places = [
        root,
        root / "dist",
        root / "onnxruntime-web" / "dist",
        root / "node_modules" / "onnxruntime-web" / "dist",
    ]
    for place in places:
        if all((place / name).is_file() for name in _RUNTIME):
            return [place / name for name in _RUNTIME]
    raise InputError(
        f"Expected the folder of onnxruntime-web with {_RUNTIME[0]}, '{root}' has none; run: npm install "
        f"onnxruntime-web, and give {argument('web', 'node_modules')}."
    )


def filter_name(number: int) -> str:
    """Pillow's name of a filter, in lower case."""
    return _FILTERS.get(number, "nearest")
