"""What is computed otherwise in a recorded graph gives the same numbers as what is computed in Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints import save_checkpoint

from modalign import InputError, adapt, load_encoder
from modalign.data.digits import load_digits
from modalign.encoders.base import Encoder
from modalign.export.graph import Recorded, in_float32
from modalign.linalg.set_transport import set_transport
from modalign.linalg.similarity import unit
from modalign.linalg.sinkhorn import sinkhorn
from modalign.linalg.token_transport import recorded_costs, recorded_plan
from modalign.methods import method_class
from modalign.model.scoring import score


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    found = load_encoder(str(save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "clip", "clip")))
    assert isinstance(found, Encoder)
    return found


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if a graph was being recorded, but on real numbers."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("masked", [False, True])
def test_the_recorded_plan_is_that_of_sinkhorn(masked: bool) -> None:
    cost = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masses = None
    if masked:
        masses = torch.tensor([[0.25, 0.25, 0.5, 0, 0], [0.2] * 5, [1, 0, 0, 0, 0]], dtype=torch.float64)
    expected = sinkhorn(cost, 0.1, None, masses, tolerance=1e-12, max_sweeps=5000).coupling
    found = recorded_plan(cost, 0.1, masses, sweeps=2000)
    assert torch.allclose(found, expected, atol=1e-9)


def test_a_small_epsilon_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 0\.05, got 0\.04"):
        recorded_plan(torch.zeros(2, 2), 0.04, sweeps=1)


def test_costs_between_sets_are_those_of_set_transport() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(4, 6, 8, generator=generator), torch.randn(3, 5, 8, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    cost, entropy, _ = recorded_costs(unit(left), unit(right), mask, 0.1, 300)
    expected = set_transport(left, right, mask=mask, max_sweeps=3000, tolerance=1e-6)
    assert torch.allclose(cost, expected.cost, atol=2e-5)
    assert torch.allclose(entropy, expected.entropy, atol=2e-4)


@pytest.mark.parametrize("name", ["coop", "cocoop", "dam", "plot", "align", "fair", "clip_lora"])
@pytest.mark.filterwarnings("ignore:DAM was given no structures")
def test_methods_inside_an_encoder_answer_the_same_recorded(
    name: str, encoder: Encoder, recording: pytest.MonkeyPatch
) -> None:
    recording.undo()
    digits, test = load_digits().select(range(20)), load_digits().select(range(20, 26))
    method = method_class(name)(epochs=1, random_state=0)
    model = in_float32(adapt(digits, method=method, encoder=encoder, validation="none", mirror=False))
    expected = score(model.encoder, model.method, test).logits
    graph = Recorded(model).eval()
    pixels = np.stack([graph.steps[0].prepare(test.open(i)) for i in range(6)])
    recording.setattr(torch.compiler, "is_exporting", lambda: True)
    with torch.no_grad():
        probabilities, logits = graph(torch.from_numpy(pixels))
    assert np.abs(logits.numpy() - expected).max() < 2e-3  # transport stops at a tolerance in Python
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(6))


def test_unit_rows_are_the_same_recorded(recording: pytest.MonkeyPatch) -> None:
    X = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]])
    found = unit(X)
    recording.undo()
    assert torch.equal(found, unit(X))
