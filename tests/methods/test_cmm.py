"""CMM against the paper's equations, its limits, and what it promises about choosing and diagnosing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from problems import few_shot

from modalign.errors import InputError, UnknownNameError
from modalign.linalg.gaussians import modality_gap
from modalign.methods.cmm import CMM
from modalign.methods.cmm_training import Learner, Objective

DATA = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32"


def cmm(**settings) -> CMM:
    return CMM(**{"steps": 150, "random_state": 0, **settings})


def fit(data, model: CMM, text: bool = True, validation: bool = True) -> CMM:
    return model.fit(
        data.X, data.y, text=data.text if text else None, validation=(data.Xv, data.yv) if validation else None
    )


def literal_scores(model: CMM, X: np.ndarray) -> np.ndarray:
    """Equations 5–7 and 14, one image and one class after the other, in float64."""
    W, T, t = (a.double().numpy() for a in (model.weights_, model.prototypes_, model.text_))
    rows = []
    for x in X.astype(np.float64):
        x = x / np.linalg.norm(x)
        f = x
        for layer in range(len(W)):
            f = np.maximum(f, 0) if layer else f
            f = f @ (W[layer] + np.eye(len(x)))
        f = f / np.linalg.norm(f)
        rows.append([f @ T[c] / np.linalg.norm(T[c]) + model.fusion_ * (x @ t[c]) for c in range(len(T))])
    return model.logit_scale_ * np.array(rows)


@pytest.mark.parametrize("layers", [1, 3])
def test_scores_are_the_equations(layers):
    data = few_shot()
    model = fit(data, cmm(layers=layers))
    assert model.weights_.shape == (layers, 24, 24)
    np.testing.assert_allclose(model.scores(3 * data.Xt), literal_scores(model, data.Xt), atol=2e-4)


@pytest.mark.parametrize("sentences", [1, 3])
def test_zero_start_is_zero_shot_exactly(sentences):
    """W = 0 and T = t give CLIP's logits times 1 + β; several sentences enter by their mean direction."""
    data = few_shot()
    rng = np.random.default_rng(0)
    text = np.stack([data.text + 0.1 * rng.normal(size=data.text.shape) for _ in range(sentences)], axis=1)
    model = cmm(steps=0, init="zero").fit(data.X, data.y, text=text)
    mean = F.normalize(F.normalize(torch.from_numpy(text), dim=2).mean(dim=1), dim=1).numpy()
    np.testing.assert_allclose(model.scores(data.Xt), 200 * data.Xt @ mean.T, atol=1e-3)
    assert model.diagnosis_["images_moved"] == pytest.approx(0, abs=1e-6)
    assert model.diagnosis_["modality_gap"]["before"] == pytest.approx(
        model.diagnosis_["modality_gap"]["after"], abs=1e-4
    )


def test_defaults_are_the_published_schedule():
    assert CMM().get_params() == {
        "steps": 16_000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "min_learning_rate": 1e-5,
        "warmup_steps": 50,
        "weight_decay": 0.01,
        "init": "linear",
        "layers": 1,
        "margin": 1.0,
        "triplet_weight": 1.0,
        "training_fusion": 1.0,
        "fusion": "auto",
        "fusion_low": 0.1,
        "fusion_high": 1.0,
        "checkpoints": 24,
        "criterion": "log-loss",
        "logit_scale": None,
        "random_state": None,
    }


@pytest.mark.parametrize(
    ("init", "deviation"), [("linear", (3 * 64) ** -0.5), ("kaiming", (2 / 64) ** 0.5), ("zero", 0)]
)
def test_starts_have_the_variance_they_are_named_for(init, deviation):
    data = few_shot(d=64)
    start = fit(data, cmm(steps=0, init=init), validation=False).weights_
    assert start.std().item() == pytest.approx(deviation, rel=0.05)
    if init == "linear":
        reference = torch.nn.Linear(64, 64, bias=False).weight.detach()
        assert start.abs().max() <= 1 / 8
        assert start.std().item() == pytest.approx(reference.std().item(), rel=0.05)


def test_at_imagenet_size_it_has_the_papers_number_of_parameters():
    """2.07 million at d = 1,024 and 1,000 classes."""
    learner = Learner([torch.zeros(1024, 1024)], torch.zeros(1000, 1024), Objective())
    assert learner.flat.numel() == 2_072_576


def test_it_beats_its_own_start_where_text_lies_aside():
    data = few_shot(shots=8, text_noise=2.0)
    model = fit(data, cmm(steps=400, learning_rate=1e-3))
    zero_shot = np.mean((data.Xt @ data.text.T).argmax(1) == data.yt)
    assert model.score(data.Xt, data.yt) > zero_shot + 0.1
    gap = model.diagnosis_["modality_gap"]
    assert gap["after"]["kl_pca2"] < 0.7 * gap["before"]["kl_pca2"]
    assert gap["after"]["wasserstein2"] < gap["before"]["wasserstein2"]


@pytest.mark.parametrize("criterion", ["log-loss", "accuracy"])
def test_fusion_weight_is_the_best_of_the_grid_on_validation(criterion):
    data = few_shot(noise=2.0, text_noise=3.0)
    model = fit(data, cmm(checkpoints=1, fusion_low=0.2, fusion_high=2.0, criterion=criterion))
    own, labels = model.transform(data.Xv) @ model.prototypes_.numpy().T, torch.from_numpy(data.yv)
    found = {}
    for beta in [round(0.2 + 0.1 * i, 10) for i in range(19)]:
        scores = torch.from_numpy(own + beta * data.Xv @ data.text.T).double()
        loss = min(F.cross_entropy(k * scores, labels).item() for k in 2 ** np.linspace(1, 8, 15))
        right = (scores.argmax(1) == labels).double().mean().item()
        found[beta] = (right, -loss) if criterion == "accuracy" else (-loss, right)
    assert model.fusion_ == max(found, key=found.get)
    assert 0.2 < model.fusion_ < 2.0  # the grid was not left at an end, where a wrong sign would end up too
    assert model.diagnosis_["step"] == 150


def test_without_validation_the_end_of_training_is_kept_with_its_own_fusion():
    data = few_shot()
    model = fit(data, cmm(), validation=False)
    assert (model.fusion_, model.diagnosis_["step"]) == (1.0, 150)
    assert not any("validation" in key for key in model.diagnosis_)
    assert fit(data, cmm(training_fusion=0.4), validation=False).fusion_ == 0.4
    assert fit(data, cmm(fusion=0.7), validation=False).fusion_ == 0.7
    unlabelled = cmm().fit(data.X, data.y, text=data.text, validation=(data.Xv, np.full(len(data.Xv), -1)))
    np.testing.assert_array_equal(unlabelled.scores(data.Xt), model.scores(data.Xt))


def test_the_kept_moment_is_at_least_as_good_on_validation_as_the_end():
    data = few_shot(shots=1, noise=2.0)
    run = {"steps": 600, "learning_rate": 3e-3, "criterion": "accuracy"}
    kept, end = fit(data, cmm(**run)), fit(data, cmm(**run, checkpoints=1))
    assert kept.diagnosis_["step"] < 600
    assert end.diagnosis_["step"] == 600
    assert kept.diagnosis_["validation_accuracy"] > end.diagnosis_["validation_accuracy"]
    np.testing.assert_array_equal(kept.losses_, end.losses_)  # looking does not disturb the training


def test_ablation_says_what_is_left_without_map_and_without_fusion():
    data = few_shot(shots=8)
    model = fit(data, cmm(steps=300, learning_rate=1e-3))
    found = model.diagnosis_
    own, clip = model.transform(data.Xv) @ model.prototypes_.numpy().T, data.Xv @ data.text.T

    def right(scores):
        return pytest.approx(np.mean(scores.argmax(1) == data.yv))

    assert found["validation_accuracy"] == right(model.scores(data.Xv))
    assert found["validation_accuracy_without_fusion"] == right(own)
    assert found["validation_accuracy_without_map"] == right(
        data.Xv @ model.prototypes_.numpy().T + model.fusion_ * clip
    )
    assert found["validation_accuracy_zero_shot"] == right(clip)


def test_modality_gap_is_that_of_the_images_and_the_texts():
    data = few_shot()
    model = fit(data, cmm())
    gap = model.diagnosis_["modality_gap"]
    unit = torch.from_numpy(data.X / np.linalg.norm(data.X, axis=1, keepdims=True))
    assert gap["before"] == pytest.approx(vars(modality_gap(unit, torch.from_numpy(data.text))), rel=1e-4)
    mapped = torch.from_numpy(model.transform(data.X))
    assert gap["after"] == pytest.approx(vars(modality_gap(mapped, model.prototypes_)), rel=1e-4)
    early = fit(data, cmm(steps=600, learning_rate=3e-3))
    end = fit(data, cmm(steps=600, learning_rate=3e-3, checkpoints=1)).diagnosis_["modality_gap"]
    assert early.diagnosis_["step"] < 600
    assert early.diagnosis_["modality_gap"]["end"] == end["after"]
    assert "end" not in end
    two = few_shot(classes=2)
    assert fit(two, cmm()).diagnosis_["modality_gap"]["before"]["kl_pca2"] is None  # two texts span no area


def test_transform_gives_unit_vectors_of_the_kind_that_came():
    data = few_shot()
    model = fit(data, cmm())
    mapped = model.transform(data.Xt)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    assert isinstance(model.transform(torch.from_numpy(data.Xt)), torch.Tensor)
    np.testing.assert_array_equal(model.transform(torch.from_numpy(data.Xt)).numpy(), mapped)


def test_without_text_class_means_and_a_softer_temperature():
    data = few_shot()
    model = fit(data, cmm(), text=False)
    means = np.stack([data.X[data.y == c].mean(axis=0) for c in range(5)])
    np.testing.assert_allclose(model.text_, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-6)
    assert model.logit_scale_ == 10
    assert fit(data, cmm()).logit_scale_ == 100
    assert fit(data, cmm(logit_scale=7.0), text=False).logit_scale_ == 7


def test_the_order_of_batches_depends_on_rows_not_on_classes():
    """Fewer images than a batch: every step is a full pass."""
    data = few_shot(shots=1)
    model = fit(data, cmm(steps=5), validation=False)
    assert model.losses_.shape == (5,)
    other = fit(data, cmm(steps=5, batch_size=5), validation=False)
    np.testing.assert_array_equal(model.scores(data.Xt), other.scores(data.Xt))


def test_seeds_differ_and_none_draws_anew():
    data = few_shot()
    assert np.abs(fit(data, cmm()).scores(data.Xt) - fit(data, cmm(random_state=1)).scores(data.Xt)).max() > 1e-3
    free = [fit(data, cmm(random_state=None)).scores(data.Xt) for _ in range(2)]
    assert np.abs(free[0] - free[1]).max() > 1e-3


def test_contradictions_are_refused_in_a_sentence():
    data = few_shot()
    with pytest.raises(InputError, match="fusion_low ≤ fusion_high"):
        fit(data, cmm(fusion_low=0.5, fusion_high=0.2))
    with pytest.raises(InputError, match="min_learning_rate ≤ learning_rate"):
        fit(data, cmm(learning_rate=1e-6))
    with pytest.raises(UnknownNameError, match="did you mean 'kaiming'"):
        fit(data, cmm(init="kaimin"))
    with pytest.raises(InputError, match="layers"):
        fit(data, cmm(layers=0))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real CLIP features of ../shared/data are not here")
def test_real_clip_features_four_shots():
    """A tenth of the schedule on Caltech101 (68 classes with text) passes what the full one must reach: 95.4."""
    with np.load(DATA / "caltech101.npz") as file:
        position = {int(c): i for i, c in enumerate(file["text_labels"])}

        def part(name):
            X, y = file[f"{name}_images"].astype(np.float32), file[f"{name}_labels"]
            kept = np.isin(y, list(position))
            return X[kept], np.array([position[int(c)] for c in y[kept]])

        text = file["text"].astype(np.float32)
        X, y = part("shots4")
        model = CMM(steps=1600, random_state=0).fit(X, y, text=text, validation=part("val"))
        assert model.score(*part("test")) >= 0.954
