"""CLIP-Adapter against torch's own modules and optimizer, its start, and what validation decides."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from problems import few_shot

from modalign.linalg.optimizers import cosine_rates
from modalign.methods.baselines.clip_adapter import CLIPAdapter
from modalign.methods.baselines.zero_shot import ZeroShot


def test_training_is_that_of_torch_modules():
    data = few_shot()
    X, Xt, T = (F.normalize(torch.from_numpy(a), dim=1) for a in (data.X, data.Xt, data.text))
    settings = {"ratio": 0.6, "steps": 12, "learning_rate": 0.01, "weight_decay": 0.1, "random_state": 3}
    model = CLIPAdapter(**settings)
    model.random_state_ = 3
    start = model._start(X)
    adapter = torch.nn.Sequential(
        torch.nn.Linear(24, 6, bias=False), torch.nn.ReLU(), torch.nn.Linear(6, 24, bias=False), torch.nn.ReLU()
    )
    adapter[0].weight.data, adapter[2].weight.data = start[0].T.clone(), start[1].T.clone()
    optimizer = torch.optim.AdamW(adapter.parameters(), weight_decay=0.1)

    def scores(X):
        return 100 * F.normalize(0.6 * adapter(X) + 0.4 * X, dim=1) @ T.T

    for rate in cosine_rates(12, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(scores(X), torch.from_numpy(data.y)).backward()
        optimizer.step()
    method = CLIPAdapter(**settings).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.scores(data.Xt), scores(Xt).detach(), atol=0.02)


def test_step_zero_is_zero_shot():
    data = few_shot()
    method = CLIPAdapter(stop=0).fit(data.X, data.y, text=data.text)
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    np.testing.assert_allclose(method.scores(data.Xt), zero_shot.scores(data.Xt), atol=1e-4)


def test_ratio_and_step_are_chosen_by_validation():
    data = few_shot(shots=8, text_noise=1.6)
    validation = (data.Xv, data.yv)
    settings = {"criterion": "accuracy", "steps": 60, "random_state": 0}
    method = CLIPAdapter(**settings).fit(data.X, data.y, text=data.text, validation=validation)
    tried = [
        CLIPAdapter(**settings, ratio=ratio, stop=stop).fit(data.X, data.y, text=data.text).score(*validation)
        for ratio in (0.2, 0.8)
        for stop in (0, 60)
    ]
    assert method.score(*validation) == method.diagnosis_["validation_accuracy"] >= max(tried)
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)
