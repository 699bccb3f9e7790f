"""Description of the machine and the versions for tables of results."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from modalign.core.record import versions


def machine() -> str:
    """The processor, its cores, the system and the versions of what computes, in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads of torch, {platform.system()} "
        f"{platform.machine()}; {packages}"
    )


def _processor() -> str:
    """The name that the system gives its processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "processor of unknown name")
