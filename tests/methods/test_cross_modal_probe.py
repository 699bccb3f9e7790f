"""The cross-modal probe against its loss written out, the ends of the interpolation, and its choices."""

from __future__ import annotations

from copy import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from problems import few_shot

from modalign.core.errors import InputError
from modalign.methods.baselines import cross_modal_probe
from modalign.methods.baselines.cross_modal_probe import CrossModalProbe
from modalign.methods.baselines.cross_modal_samples import Samples, gradients_of_parts
from modalign.methods.baselines.wise_ft import WiSEFT
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.vectors import Problem

GIVEN = {"learning_rate": 1e-3, "weight_decay": 0.01, "random_state": 0}


def samples(data, text, batch_size=8, steps=50):
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    return Samples.of(Problem(X, y, 5, text, None, None), batch_size, steps, 0)


def test_batches_are_half_images_and_half_sentences():
    data = few_shot()
    text = torch.from_numpy(np.stack([data.text, -data.text], axis=1))
    text[2, 1] = 0  # one sentence less
    found = samples(data, text)
    assert found.sentences == 9
    assert found.rows.shape == (20 + 9, 24)
    assert (found.batches[:, :4] < 20).all()
    assert (found.batches[:, 4:] >= 20).all()
    assert set(found.batches.flatten().tolist()) == set(range(29))
    assert found.weights.sum().item() == pytest.approx(1)
    for row, target in zip(found.rows[20:], found.targets[20:], strict=True):
        assert any(torch.allclose(row, sentence, atol=1e-6) for sentence in text[target.argmax()])


def test_a_batch_holds_at_most_all_samples():
    data = few_shot()
    found = samples(data, torch.from_numpy(data.text)[:, None], batch_size=10**12, steps=3)
    assert found.batches.shape == (3, 20 + 5)
    assert (found.batches.sort(dim=1).values == torch.arange(25)).all()
    assert found.weights[:20].sum().item() == pytest.approx(0.5)
    WiSEFT(steps=3, batch_size=10**12, **GIVEN).fit(data.X, data.y, text=data.text)


@pytest.mark.parametrize("batch_size", [2, 7, 8])
def test_the_gradient_is_that_of_the_two_means(batch_size):
    """½ mean CE of images + ½ mean CE of sentences, also where the halves are not of one size."""
    data = few_shot()
    found = samples(data, torch.from_numpy(data.text)[:, None], batch_size)
    W = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0)).mul_(0.1)
    likelihoods, slopes = found.gradients(W, 100.0)(4)
    losses = found.losses(likelihoods[None])[0]
    batch, images = found.batches[4], batch_size - batch_size // 2
    classes = found.targets.argmax(dim=1)
    for candidate in range(3):
        own = W[candidate].clone().requires_grad_()
        cross_entropy = [torch.nn.functional.cross_entropy(100 * found.rows[part] @ own.T, classes[part])
                         for part in (batch[:images], batch[images:])]  # fmt: skip
        loss = sum(cross_entropy) / 2
        loss.backward()
        assert losses[candidate].item() == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(slopes[candidate], own.grad, atol=1e-5, rtol=1e-4)


def test_training_is_adamw_of_torch_on_that_loss():
    data = few_shot()
    steps = 60
    method = CrossModalProbe(steps=steps, probe_weight=1.0, warmup_steps=10, **GIVEN).fit(
        data.X, data.y, text=data.text
    )
    found = samples(data, torch.from_numpy(data.text)[:, None], 8, steps)
    W = torch.nn.Parameter(torch.from_numpy(data.text).clone())
    optimizer = torch.optim.AdamW([W], lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        rate = (step + 1) / 10 if step < 10 else (1 + np.cos(np.pi * (step - 10) / (steps - 10))) / 2
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        batch = found.batches[step]
        loss = torch.nn.functional.cross_entropy(100 * found.rows[batch] @ W.T, found.targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(method.coef_, W.detach(), atol=1e-5)


def test_ratio_zero_is_zero_shot_and_one_the_probe():
    data = few_shot()
    none, half, all_ = (
        CrossModalProbe(steps=100, probe_weight=r, **GIVEN).fit(data.X, data.y, text=data.text) for r in (0.0, 0.5, 1.0)
    )
    zero_shot = ZeroShot().fit(data.X, text=data.text).scores(data.Xt)
    np.testing.assert_allclose(none.scores(data.Xt), zero_shot, atol=1e-4)
    np.testing.assert_allclose(all_.coef_, all_.learned_, atol=1e-7)
    np.testing.assert_allclose(half.scores(data.Xt), (zero_shot + all_.scores(data.Xt)) / 2, atol=1e-3)
    assert np.abs(all_.scores(data.Xt) - zero_shot).max() > 1


def test_sentences_are_shots():
    """Without an image of a class its sentence alone keeps the class alive; the uni-modal probe loses it."""
    data = few_shot(classes=3)
    kept = data.y != 2
    method = CrossModalProbe(steps=2000, probe_weight=1.0, learning_rate=1e-2, random_state=0)
    method.fit(data.X[kept], data.y[kept], text=data.text)
    np.testing.assert_array_equal(method.predict(data.text), [0, 1, 2])


def test_side_by_side_candidates_are_the_runs_one_by_one():
    data = few_shot(noise=1.6)
    both = CrossModalProbe(steps=80, weight_decay=0.01, probe_weight=1.0, criterion="accuracy", random_state=0)
    both.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    alone = both.get_params() | {"learning_rate": both.diagnosis_["learning_rate"]}
    again = CrossModalProbe(**alone).fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    assert again.diagnosis_["step"] == both.diagnosis_["step"]
    np.testing.assert_allclose(again.coef_, both.coef_, atol=1e-5)


@pytest.mark.parametrize(("cls", "text"), [(CrossModalProbe, True), (CrossModalProbe, False), (WiSEFT, True)])
def test_refits_side_by_side_have_the_scores_of_single_fits(cls, text):
    """Parts of unequal sizes; they train one after the other if one has too few images for a batch of the others."""
    data = few_shot(noise=1.6)
    X, y, place = torch.from_numpy(data.X), torch.from_numpy(data.y), torch.arange(20) % 4
    sentences = torch.from_numpy(data.text)[:, None] if text else None
    method = cls(steps=60, random_state=0).fit(data.X, data.y, text=data.text if text else None)
    for parts in ([place >= 0, place != 0, place > 1], [place >= 0, place == 0]):
        problems = [Problem(X[part], y[part], 5, sentences, None, None) for part in parts]
        together, alone = ([copy(method) for _ in parts] for _ in range(2))
        method._refit(together, problems)
        for number, (one, other, problem) in enumerate(zip(together, alone, problems, strict=True)):
            other._fit(problem)
            torch.testing.assert_close(one._scores(X), other._scores(X), atol=1e-4, rtol=1e-5)
            assert ((one._scores(X) - method._scores(X)).abs().max() > 1e-3) == (number > 0)


def test_no_number_of_a_gradient_is_denormal():
    """Products with denormal numbers are many times slower; a class 95 nats behind has no part in the sum."""
    image, other = torch.eye(2)
    found = Samples(image[None], image[None], torch.zeros(1, 8, dtype=torch.long), torch.full((8, 1), 1 / 8), 0)
    W = torch.stack([0.95 * image, 0 * other])[None]
    for slopes in (found.gradients(W, 100.0)(0)[1], gradients_of_parts([found], W, 100.0)(0)):
        assert slopes[0, 1, 0] >= torch.finfo(torch.float32).tiny
        assert slopes.abs().max() < 1e-30


def test_the_better_half_goes_on_as_if_it_were_alone(monkeypatch):
    """Six candidates, then three, then one; its weights are those of a run without the others."""
    data = few_shot(noise=1.6)
    racing, gradients = [], Samples.gradients
    monkeypatch.setattr(Samples, "gradients", lambda self, W, scale: racing.append(len(W)) or gradients(self, W, scale))
    raced = CrossModalProbe(steps=300, random_state=0)
    raced.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    assert racing == [6, 3, 1]
    alone = CrossModalProbe(steps=300, random_state=0, **raced.chosen())
    alone.fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(alone.coef_, raced.coef_, atol=1e-5)
    torch.testing.assert_close(alone.losses_, raced.losses_[: len(alone.losses_)], atol=1e-5, rtol=1e-4)


def test_no_candidate_is_dropped_that_is_better_than_one_that_goes_on(monkeypatch):
    data = few_shot(noise=1.6)
    seen, judge = [], cross_modal_probe.ProbeJudge.update

    def look(self, now, ratios):
        judge(self, now, ratios)
        seen.append((now.step, now.candidate, self.best.standing))

    monkeypatch.setattr(cross_modal_probe.ProbeJudge, "update", look)
    CrossModalProbe(steps=300, random_state=0).fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    steps = sorted({step for step, *_ in seen})
    for step, following in pairwise(steps):
        standings = {candidate: standing for at, candidate, standing in seen if at == step}
        kept = {candidate for at, candidate, _ in seen if at == following}
        dropped = [standings[candidate] for candidate in standings.keys() - kept]
        assert all(lost <= standings[candidate] for lost in dropped for candidate in kept)


def test_validation_labels_choose_and_their_accuracy_is_the_highest():
    data = few_shot(noise=1.6)
    settings = {"steps": 100, "criterion": "accuracy", "random_state": 0}
    method = CrossModalProbe(**settings).fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    found = method.diagnosis_
    assert found["validation_accuracy"] >= found["validation_accuracy_zero_shot"]  # ratio 0 is a candidate
    assert found["validation_accuracy"] == pytest.approx(method.score(data.Xv, data.yv))
    misled = CrossModalProbe(**settings).fit(data.X, data.y, text=data.text, validation=(data.Xv, (data.yv + 1) % 5))
    assert not torch.equal(misled.coef_, method.coef_)


def test_without_validation_the_defaults_hold():
    data = few_shot()
    found = CrossModalProbe(steps=20, random_state=0).fit(data.X, data.y, text=data.text).diagnosis_
    assert (found["learning_rate"], found["weight_decay"], found["probe_weight"], found["step"]) == (
        1e-4,
        0.01,
        0.5,
        20,
    )


def test_without_text_it_is_the_uni_modal_probe_from_class_means():
    data = few_shot()
    method = CrossModalProbe(steps=100, random_state=0).fit(data.X, data.y)
    assert method.diagnosis_["sentences"] == 0
    start = CrossModalProbe(steps=100, probe_weight=0.0, random_state=0).fit(data.X, data.y)
    np.testing.assert_allclose(start.scores(data.Xt), ZeroShot().fit(data.X, data.y).scores(data.Xt), atol=1e-4)


def test_mistakes_are_one_sentence():
    data = few_shot()
    with pytest.raises(InputError, match=r"CrossModalProbe\(probe_weight=…\)"):
        CrossModalProbe(probe_weight=1.5).fit(data.X, data.y, text=data.text)
    with pytest.raises(InputError, match=r"CrossModalProbe\(batch_size=…\)"):
        CrossModalProbe(batch_size=1).fit(data.X, data.y, text=data.text)


def test_wise_ft_averages_the_texts_and_a_classifier_trained_on_images_alone():
    """Against torch's own AdamW on the same batches of images."""
    data = few_shot()
    settings = {"steps": 30, "warmup_steps": 0, "learning_rate": 1e-3, "weight_decay": 0.01, "random_state": 0}
    found = WiSEFT(**settings, probe_weight=0.25).fit(data.X, data.y, text=data.text)
    rows = samples(data, None, steps=30)
    start = torch.nn.functional.normalize(torch.from_numpy(data.text), dim=1)
    W = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([W], weight_decay=0.01)
    for step, batch in enumerate(rows.batches):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 + np.cos(np.pi * step / 30)) / 2
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(100 * rows.rows[batch] @ W.T, rows.targets[batch].argmax(dim=1)).backward()
        optimizer.step()
    np.testing.assert_allclose(found.coef_, (0.75 * start + 0.25 * W).detach(), atol=2e-6)
    assert found.diagnosis_["sentences"] == 0
    assert np.abs(found.coef_.numpy() - start.numpy()).max() > 1e-3


def test_the_share_of_wise_ft_is_chosen_if_requested():
    data = few_shot(noise=2.0)
    chosen = WiSEFT(**GIVEN, steps=200, probe_weight="auto").fit(
        data.X, data.y, text=data.text, validation=(data.Xv, data.yv)
    )
    assert chosen.diagnosis_["chosen_on"] == "validation"
    assert chosen.probe_weight_ != 0.5
    assert WiSEFT(**GIVEN, steps=5).fit(data.X, data.y, text=data.text).probe_weight_ == 0.5
