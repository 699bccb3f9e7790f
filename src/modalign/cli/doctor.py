"""Checks of the installation; the last one classifies bundled digits from pixels to classes."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class EnvironmentCheck:
    """One line of the report; ``ok`` is False only for problems that keep the library from working."""

    what: str
    found: str
    ok: bool = True


EXTRAS = {
    "plot": ("pictures", "matplotlib"),
    "app": ("studio and serve", "fastapi", "uvicorn", "python-multipart", "prometheus-client"),
    "onnx": ("export", "onnx", "onnxscript", "onnxruntime"),
    "lora": ("FAIR and CLIP-LoRA through peft", "peft"),
    "parquet": ("Parquet files", "pyarrow"),
    "pandas": ("data frames", "pandas"),
    "polars": ("data frames of polars", "polars"),
    "datasets": ("data sets of Hugging Face", "datasets"),
    "heic": ("HEIC photos", "pillow-heif"),
    "remote": ("images at s3:// and https://", "fsspec"),
    "ray": ("shards on Ray", "ray"),
}
"""Extra → purpose and packages."""


def examine() -> list[EnvironmentCheck]:
    """Check Python, packages, device, memory, cache folder and extras, and classify embedded digits."""
    findings = [EnvironmentCheck("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    for check in (_packages, _device, _cache, _extras, _encoders, _whole_path):
        findings += _guarded(check)
    return findings


def _guarded(check: Callable[[], list[EnvironmentCheck]]) -> list[EnvironmentCheck]:
    """Run a check; any exception of a broken installation becomes a failed line."""
    try:
        return check()
    except Exception as error:
        return [
            EnvironmentCheck(check.__name__.strip("_").replace("_", " "), f"{type(error).__name__}: {error}", ok=False)
        ]


def _packages() -> list[EnvironmentCheck]:
    from modalign.core.record import versions

    found = {name: number for name, number in versions().items() if name != "python"}
    found["safetensors"] = version("safetensors")
    return [EnvironmentCheck("packages", ", ".join(f"{name} {number}" for name, number in found.items()))]


def _device() -> list[EnvironmentCheck]:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return [EnvironmentCheck("device", f"cuda: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")]
    if torch.backends.mps.is_available():
        return [EnvironmentCheck("device", "mps (Apple GPU)")]
    return [
        EnvironmentCheck("device", f"cpu, {torch.get_num_threads()} threads; no GPU found, which is fine for vectors")
    ]


def _cache() -> list[EnvironmentCheck]:
    from modalign.encoders.features.store import default_cache

    folder = default_cache()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    writable = os.access(existing, os.W_OK)
    return [
        EnvironmentCheck(
            "feature cache", f"{folder}, {free:.0f} GiB free{'' if writable else ', not writable'}", writable
        )
    ]


def _extras() -> list[EnvironmentCheck]:
    found = []
    for extra, (purpose, *packages) in EXTRAS.items():
        try:
            has = f"{', '.join(f'{package} {version(package)}' for package in packages)}, for {purpose}"
        except PackageNotFoundError as error:
            has = f"without {error.name}; for {purpose}: pip install 'modalign[{extra}]'"
        found.append(EnvironmentCheck(f"extra '{extra}'", has))
    return found


def _encoders() -> list[EnvironmentCheck]:
    from modalign.encoders.catalog import downloaded
    from modalign.encoders.registry import EMBEDDED, KNOWN_ENCODERS

    here = [name for name in KNOWN_ENCODERS if name in EMBEDDED or downloaded(name) is not None]
    layouts = "folders of Hugging Face and of open_clip are read, without the package open_clip"
    return [EnvironmentCheck("encoders", f"{', '.join(here)} on this machine; {layouts}")]


def _whole_path() -> list[EnvironmentCheck]:
    from modalign.data.digits import DIGIT_TEMPLATES, load_digits
    from modalign.data.text.descriptions import sentences
    from modalign.encoders import load_encoder
    from modalign.methods.baselines.zero_shot import ZeroShot

    started = time.perf_counter()
    digits = load_digits().select(range(10))
    encoder = load_encoder("tiny", cache=False)
    text = encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)
    features = encoder.embed_images(digits, progress=False)
    right = (ZeroShot().fit(features, text=text).predict(features) == features.labels).sum()
    seconds = time.perf_counter() - started
    return [EnvironmentCheck("whole path", f"{right} of 10 digits right without labels, {seconds:.1f} s")]
