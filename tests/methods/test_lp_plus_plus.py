"""LP++ against its gradients by automatic differentiation, the descent its step sizes promise, and its start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import few_shot

from modalign.methods.baselines.lp_plus_plus import LPPlusPlus
from modalign.methods.baselines.zero_shot import ZeroShot


def test_steps_are_those_of_the_equations():
    data = few_shot()
    X, T = (F.normalize(torch.from_numpy(a).double(), dim=1) for a in (data.X, data.text))
    y = torch.from_numpy(data.y)
    w = torch.zeros_like(T, requires_grad=True)
    a = torch.full((5,), 20.0, dtype=torch.float64, requires_grad=True)
    largest = torch.linalg.eigvalsh(X.T @ X)[-1] / (2 * len(X))
    for _ in range(7):
        (slope,) = torch.autograd.grad(F.cross_entropy(X @ (w + a[:, None] * T).T, y), w)
        w = (w - slope / largest).detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(X @ (w + a[:, None] * T).T, y), a)
        lipschitz = torch.stack([sum((x @ t) ** 2 for x in X) / (2 * len(X)) for t in T])
        a = (a - slope / lipschitz).detach().requires_grad_()
    method = LPPlusPlus(steps=7, logit_scale=20.0).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.weights_, w.detach(), atol=1e-4)
    np.testing.assert_allclose(method.multipliers_, a.detach(), atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 3, 8]), st.floats(1.0, 100.0))
def test_no_step_raises_the_loss(seed, shots, scale):
    data = few_shot(seed=seed, shots=shots, noise=1.6)
    losses = LPPlusPlus(steps=30, logit_scale=scale).fit(data.X, data.y, text=data.text).losses_.numpy()
    assert (np.diff(losses) <= 1e-5 * (1 + losses[0])).all()


def test_the_start_is_zero_shot():
    data = few_shot()
    method = LPPlusPlus(stop=0).fit(data.X, data.y, text=data.text)
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    np.testing.assert_allclose(method.scores(data.Xt), zero_shot.scores(data.Xt), atol=1e-4)


def test_training_helps_and_stops_by_validation():
    data = few_shot(shots=8, text_noise=1.6)
    validation = (data.Xv, data.yv)
    method = LPPlusPlus(criterion="accuracy").fit(data.X, data.y, text=data.text, validation=validation)
    tried = [LPPlusPlus(stop=k).fit(data.X, data.y, text=data.text).score(*validation) for k in (0, 1, 300)]
    assert method.score(*validation) == pytest.approx(method.diagnosis_["validation_accuracy"])
    assert method.score(*validation) >= max(tried)
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)
