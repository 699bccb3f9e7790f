"""Checkpoints of a training, from which a killed run continues with equal results.

::

    folder/
      state-<sha256>.safetensors     trainable parameters, buffers, the optimizer's moments
      training.json                  identity of the run, number of steps, history, name of the state

The state is written first, under a name that contains its hash; then the new card replaces the old one in a single
rename. Neither file contains code. There is no state of random generators, because every draw of the loop is a function
of the seed and its keys (``core/randomness.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from modalign.core.errors import InputError
from modalign.core.files import CardFormat

FORMAT = CardFormat(
    family="modalign-training",
    version=2,
    what="a checkpoint",
    file="training.json",
    entries={"run": dict, "step": int, "progress": dict},
    tensors="state",
    advice=" Delete the folder to start again.",
)


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return everything that a training changes: trainable parameters and persistent buffers."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    kept = module.state_dict(keep_vars=True)
    buffers = {name: b for name, b in module.named_buffers() if name in kept}
    return parameters | buffers


def check_checkpoint(folder: str | Path) -> None:
    """Raise unless a training state can be written to ``folder``; to be called before a long computation."""
    FORMAT.check_folder(folder)


def saved_run(folder: str | Path) -> dict[str, Any]:
    """Return the entries of the checkpoint in ``folder`` about its run; {} if there is none."""
    check_checkpoint(folder)
    return FORMAT.read(Path(folder))["run"] if (Path(folder) / FORMAT.file).is_file() else {}


class TrainingState:
    """Folder with the latest state of a run.

    Parameters
    ----------
    folder : str or Path
        Made when first written to; must be empty or hold a checkpoint of the same run.
    run : mapping
        Values that affect the result; a checkpoint with other values is refused.
    """

    def __init__(self, folder: str | Path, run: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.run = json.loads(json.dumps(run, allow_nan=False))

    def save(self, module: nn.Module, optimizer: Optimizer, step: int, progress: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically by the state after ``step`` steps.

        Cost: three times the trainable parameters for AdamW, twice for SGD, written and flushed to the disk.
        """
        tensors = {f"module.{name}": t.detach().clone() for name, t in trained_tensors(module).items()}
        tensors |= {f"optimiser.{name}": t.detach().clone() for name, t in _moments(module, optimizer).items()}
        data = save_tensors({name: t.cpu().contiguous() for name, t in tensors.items()})
        FORMAT.write(self.folder, {"run": self.run, "step": step, "progress": dict(progress)}, data)

    def load(self, module: nn.Module, optimizer: Optimizer) -> tuple[int, dict[str, Any]] | None:
        """Load the saved state into module and optimizer; return (steps done, progress), or None without a state.

        Raises
        ------
        InputError
            The folder holds something else, the checkpoint is of another run or damaged. The module is then as it was.
        """
        card = self._read_card()
        if card is None:
            return None
        tensors = self._read_state(card)
        wanted = {f"module.{name}": t for name, t in trained_tensors(module).items()}
        found = {name: t for name, t in tensors.items() if name.startswith("module.")}
        moments = {name: t for name, t in tensors.items() if name not in found}
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if _shapes(wanted) != _shapes(found) or not all(_is_moment(*entry, parameters) for entry in moments.items()):
            raise InputError(
                f"Expected the tensors of this model in the checkpoint '{self.folder}', it holds others; "
                "choose another folder, or delete it to start again."
            )
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(found[name])
        for key, tensor in moments.items():
            moment, _, name = key.removeprefix("optimiser.").partition(".")
            # torch keeps the counter of steps on the CPU wherever the parameters are
            device = "cpu" if moment == "step" else parameters[name].device
            optimizer.state[parameters[name]][moment] = tensor.to(device)
        return card["step"], card["progress"]

    def _read_card(self) -> dict[str, Any] | None:
        check_checkpoint(self.folder)
        if not (self.folder / FORMAT.file).is_file():
            return None
        card = FORMAT.read(self.folder)
        odd = _differences(card["run"], self.run)
        if odd:
            raise InputError(
                f"The checkpoint in '{self.folder}' is of another run: {'; '.join(odd[:3])}"
                f"{' and more' if len(odd) > 3 else ''}; choose another folder, or delete it to start again."
            )
        return card

    def _read_state(self, card: Mapping[str, Any]) -> dict[str, Tensor]:
        data = FORMAT.read_tensors(self.folder, card)
        try:
            tensors = load_tensors(data)
        except safetensors.SafetensorError as error:
            raise InputError(f"The state in '{self.folder}' is no safetensors file: {error}.{FORMAT.advice}") from None
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise InputError(f"The state in '{self.folder}' holds NaN or infinity.{FORMAT.advice}")
        return tensors


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _is_moment(key: str, tensor: Tensor, parameters: Mapping[str, Tensor]) -> bool:
    """Whether this is a tensor that an optimizer keeps of one of the parameters: its shape, or a counter of steps."""
    prefix, _, name = key.partition(".")
    moment, _, name = name.partition(".")
    known = prefix == "optimiser" and name in parameters
    return known and tensor.shape == (torch.Size() if moment == "step" else parameters[name].shape)


def _moments(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors, by ``moment.parameter``."""
    parameters = ((name, p) for name, p in module.named_parameters() if p.requires_grad)
    return {
        f"{moment}.{name}": value
        for name, p in parameters
        for moment, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the entries that differ, as text."""
    found = []
    for key in sorted(set(there) | set(here)):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key} ")
        elif a != b:
            found.append(f"{prefix}{key} is {_short(a)} there and {_short(b)} here")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
