"""Choice of the training precision: bfloat16 if a step is faster on this machine and its gradient agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modalign.core.randomness import epoch_order, seed_of
from modalign.encoders.precision import decided, gain_of_product, seconds_of
from modalign.tune.processes import processes
from modalign.tune.recipe import Recipe
from modalign.tune.steps import Loss, differentiate
from modalign.tune.threads import SMALL, using_threads
from modalign.tune.training_state import saved_run, trained_tensors

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.tune.loop import Data

GAIN = 1.2
"""A step in bfloat16 must be this many times faster …"""
AGREEMENT = 0.999
"""… the cosine of its gradient with that in float32 at least this …"""
LOSS = 0.01
"""… and its loss within this share of that in float32."""
IMAGES = 4  # of the first batch; more would take longer and decide the same


def settled_precision(
    module: nn.Module,
    loss_of_batch: Callable[[Any], Loss],
    data: Data[Any],
    recipe: Recipe,
    *,
    encoder: Encoder,
    checkpoint: str | Path | None = None,
    purpose: str,
    threads: int | None = None,
) -> Recipe:
    """Return the recipe with the precision that ``"auto"`` stands for; any other one as it is.

    A training that goes on keeps the precision of its checkpoint. Otherwise the first images are differentiated in
    float32 and under autocast to bfloat16, at the initial parameters, which stay as they are. Networks below 20 million
    parameters and those that are not in float32 are trained as they are. The first decision for a network, a machine
    and a purpose is stored in the cache of the encoder and reused. Several processes take that of the first one.

    Cost: four steps of at most four images each.

    Parameters
    ----------
    module, loss_of_batch, data, recipe, checkpoint, threads : object
        As for :func:`~modalign.tune.loop.train`.
    encoder : Encoder
        The network that is trained inside of.
    purpose : str
        Further key of the decision: the method and the hyper-parameters that its loss depends on.
    """
    if recipe.precision != "auto":
        return recipe
    begun = {} if checkpoint is None else saved_run(checkpoint).get("recipe", {})
    if begun.get("precision") in ("float32", "bfloat16"):
        return replace(recipe, precision=begun["precision"])
    kind = encoder.device.type
    if encoder.n_parameters < SMALL or encoder.dtype != torch.float32 or kind not in ("cpu", "cuda"):
        return replace(recipe, precision="float32")

    def decide() -> tuple[torch.dtype, dict[str, float]]:
        gain = gain_of_product(encoder.device, torch.bfloat16)
        if gain < GAIN:  # a processor without such instructions would need minutes
            return torch.float32, {"gain in a matrix product": gain}
        with using_threads(threads):
            found = compare_precisions(module, loss_of_batch, data, recipe)
        half = found["cosine"] >= AGREEMENT and found["loss"] <= LOSS and found["gain"] >= GAIN  # False with NaN
        return torch.bfloat16 if half else torch.float32, found

    with processes(encoder.device) as group:
        half = group.is_first and decided(encoder, decide, purpose) == torch.bfloat16
        return replace(recipe, precision="bfloat16" if group.of_first(half) else "float32")


def compare_precisions(
    module: nn.Module, loss_of_batch: Callable[[Any], Loss], data: Data[Any], recipe: Recipe
) -> dict[str, float]:
    """Return the effect of bfloat16 on the first step: cosine of the gradients, relative loss, gain in time."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    device = parameters[0].device
    count = min(IMAGES, recipe.batch_size, len(data))
    batch = data.batch(epoch_order(len(data), recipe.seed, 0)[:count], 0)

    def step(half: bool) -> tuple[Tensor, float]:
        torch.manual_seed(seed_of("step", recipe.seed, 0, 0))
        module.zero_grad(set_to_none=True)
        loss = differentiate(loss_of_batch, batch, device, half=half)["loss"]
        return _gradient(parameters), loss

    with _unchanged(module, device):
        (plain, loss), (other, changed) = step(False), step(True)  # which also warms both up
        slow, fast = (seconds_of(device, partial(step, half), 1) for half in (False, True))
    return {
        "cosine": torch.cosine_similarity(plain, other, dim=0).item(),
        "loss": abs(changed - loss) / max(abs(loss), 1e-12),
        "gain": slow / fast,
    }


def _gradient(parameters: Sequence[nn.Parameter]) -> Tensor:
    """All gradients as one vector in float64."""
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().cpu() for p in parameters]
    ).double()


@contextmanager
def _unchanged(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Give back parameters, buffers and the state of torch's generators as they were."""
    before = {name: tensor.detach().clone() for name, tensor in trained_tensors(module).items()}
    with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
        try:
            yield
        finally:
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, tensor in trained_tensors(module).items():
                    tensor.copy_(before[name])
