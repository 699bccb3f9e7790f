"""TaskRes against automatic differentiation and torch's optimizer, its start, and what validation decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from problems import few_shot

from modalign.core.errors import InputError
from modalign.linalg.optimizers import cosine_rates
from modalign.methods.baselines.task_res import TaskRes
from modalign.methods.baselines.zero_shot import ZeroShot


def test_training_is_that_of_autograd_and_adamw():
    data = few_shot()
    X, T = (F.normalize(torch.from_numpy(a).double(), dim=1) for a in (data.X, data.text))
    residuals = torch.zeros_like(T, requires_grad=True)
    optimizer = torch.optim.AdamW([residuals], lr=1.0, weight_decay=0.1)
    losses = []
    for rate in cosine_rates(15, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(100 * X @ F.normalize(T + 0.7 * residuals, dim=1).T, torch.from_numpy(data.y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    method = TaskRes(scale=0.7, steps=15, learning_rate=0.01, weight_decay=0.1).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.losses_, losses, rtol=1e-3)
    np.testing.assert_allclose(method.residuals_, residuals.detach(), atol=1e-4)


def test_the_start_is_zero_shot():
    data = few_shot()
    method = TaskRes(stop=0).fit(data.X, data.y, text=data.text)
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    np.testing.assert_allclose(method.scores(data.Xt), zero_shot.scores(data.Xt), atol=1e-4)


def test_training_helps_and_stops_by_validation():
    data = few_shot(shots=8, text_noise=1.6)
    validation = (data.Xv, data.yv)
    method = TaskRes(criterion="accuracy").fit(data.X, data.y, text=data.text, validation=validation)
    assert method.score(*validation) == method.diagnosis_["validation_accuracy"]
    tried = [TaskRes(stop=k).fit(data.X, data.y, text=data.text).score(*validation) for k in (0, 1, 200)]
    assert method.score(*validation) >= max(tried)
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)


def test_stopping_after_the_end_is_refused():
    data = few_shot()
    with pytest.raises(InputError, match="stop ≤ 10"):
        TaskRes(steps=10, stop=11).fit(data.X, data.y, text=data.text)


def test_training_on_wrong_labels_is_stopped_by_validation_and_by_nothing_else():
    data = few_shot()
    wrong = (data.y + 1) % 5
    stopped = TaskRes(criterion="accuracy").fit(data.X, wrong, text=data.text, validation=(data.Xv, data.yv))
    assert stopped.stop_ < 20
    assert stopped.score(data.Xv, data.yv) >= ZeroShot().fit(data.X, text=data.text).score(data.Xv, data.yv)
    assert TaskRes().fit(data.X, wrong, text=data.text).stop_ == 200
