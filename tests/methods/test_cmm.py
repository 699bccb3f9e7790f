"""CMM against the paper's equations, its limits, and what it promises about choosing and diagnosing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from problems import few_shot

from modalign.core.errors import InputError, UnknownNameError
from modalign.linalg.calibration import expected_temperature
from modalign.linalg.gaussians import modality_gap
from modalign.methods.baselines.lfa import LFA
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.cmm.cmm import CMM
from modalign.methods.cmm.cmm_parameters import CMMParameters, Objective
from modalign.methods.cmm.cmm_selection import CAREFUL
from modalign.methods.cmm.cmm_training import CMMRun, Schedule
from modalign.methods.contract.training_steps import batch_order

DATA = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32"


def cmm(**settings) -> CMM:
    return CMM(**{"steps": 150, "random_state": 0, **settings})


def fit(data, model: CMM, text: bool = True, validation: bool = True) -> CMM:
    return model.fit(
        data.X, data.y, text=data.text if text else None, validation=(data.Xv, data.yv) if validation else None
    )


def settle(**settings) -> dict[str, object]:
    model = CMM(**settings)
    model.logit_scale_, model.random_state_ = 100.0, 0
    return model._settled().get_params()


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
        rows.append([f @ T[c] / np.linalg.norm(T[c]) + model.zero_shot_weight_ * (x @ t[c]) for c in range(len(T))])
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
    model = cmm(steps=0, init="zero", zero_shot_weight=1.0).fit(data.X, data.y, text=text)
    mean = F.normalize(F.normalize(torch.from_numpy(text), dim=2).mean(dim=1), dim=1).numpy()
    np.testing.assert_allclose(model.scores(data.Xt), 200 * data.Xt @ mean.T, atol=1e-3)
    assert model.diagnosis_["images_moved"] == pytest.approx(0, abs=1e-6)
    assert model.diagnosis_["modality_gap"]["before"] == pytest.approx(
        model.diagnosis_["modality_gap"]["after"], abs=1e-4
    )


def test_the_paper_preset_is_the_published_schedule_and_fills_only_what_was_left_open():
    published = {
        "steps": 16_000, "batch_size": 8, "learning_rate": 1e-4, "min_learning_rate": 1e-5, "warmup_steps": 50,
        "weight_decay": 0.01, "init": "linear", "layers": 1, "margin": 1.0, "triplet_weight": 1.0, "map": True,
        "training_zero_shot_weight": 1.0, "zero_shot_weight": "auto", "min_zero_shot_weight": 0.1,
        "max_zero_shot_weight": 1.0, "criterion": "accuracy",
    }  # fmt: skip
    settled = settle(preset="paper")
    assert {name: settled[name] for name in published} == published
    own = settle(preset="paper", steps=7, init="zero", max_zero_shot_weight=2.0)
    assert (own["steps"], own["init"], own["max_zero_shot_weight"], own["batch_size"]) == (7, "zero", 2.0, 8)


@pytest.mark.parametrize("validation", [True, False])
def test_the_paper_preset_trains_on_all_images_to_the_end(validation):
    """The trajectory of the training loop that is held against the plain one, from the same draws."""
    data = few_shot(shots=8)
    model = fit(data, CMM(preset="paper", steps=300, random_state=5), validation=validation)
    generator = torch.Generator().manual_seed(5)
    bound = 24**-0.5
    start = torch.rand(24, 24, generator=generator) * 2 * bound - bound
    X, text = (F.normalize(torch.from_numpy(a), dim=1) for a in (data.X, data.text))
    learner = CMMParameters([start], text, Objective())
    order = batch_order(40, 8, 300, generator)
    run = CMMRun(learner, X, torch.from_numpy(data.y), order, Schedule(300))
    run.advance(300)
    np.testing.assert_allclose(model.losses_, run.record().losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.weights_[0], learner.weights[0], atol=1e-6)
    np.testing.assert_allclose(model.prototypes_, F.normalize(learner.text, dim=1), atol=1e-6)
    assert model.diagnosis_["chosen_on"] == ("validation" if validation else "nothing")
    assert model.diagnosis_["step"] == 300


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
    learner = CMMParameters([torch.zeros(1024, 1024)], torch.zeros(1000, 1024), Objective())
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
    settings = {"min_zero_shot_weight": 0.2, "max_zero_shot_weight": 2.0, "criterion": criterion}
    model = fit(data, cmm(preset="paper", **settings))
    own, labels = model.transform(data.Xv) @ model.prototypes_.numpy().T, torch.from_numpy(data.yv)
    found = {}
    for beta in [round(0.2 + 0.1 * i, 10) for i in range(19)]:
        scores = torch.from_numpy(own + beta * data.Xv @ data.text.T).double()
        loss = min(F.cross_entropy(k * scores, labels).item() for k in 2 ** np.linspace(1, 8, 225))
        right = (scores.argmax(1) == labels).double().mean().item()
        found[beta] = (right, -loss) if criterion == "accuracy" else (-loss, right)
    assert model.zero_shot_weight_ == max(found, key=found.get)
    assert 0.2 < model.zero_shot_weight_ < 2.0  # the grid was not left at an end, where a wrong sign would end up too
    assert model.fusion_curve_["zero_shot_weight"] == list(found)
    merits = zip(model.fusion_curve_["accuracy"], model.fusion_curve_["log_likelihood"], strict=True)
    for merit, expected in zip(merits, found.values(), strict=True):
        assert merit == pytest.approx(expected if criterion == "accuracy" else expected[::-1], abs=1e-3)


def test_as_published_without_validation_the_fusion_is_that_of_training():
    data = few_shot()
    paper = {"preset": "paper"}
    model = fit(data, cmm(**paper), validation=False)
    assert (model.zero_shot_weight_, model.diagnosis_["step"]) == (1.0, 150)
    assert not any("validation" in key for key in model.diagnosis_)
    assert fit(data, cmm(training_zero_shot_weight=0.4, **paper), validation=False).zero_shot_weight_ == 0.4
    assert fit(data, cmm(zero_shot_weight=0.7, **paper), validation=False).zero_shot_weight_ == 0.7
    with pytest.raises(InputError, match="labeled images for validation, got none"):
        cmm(**paper).fit(data.X, data.y, text=data.text, validation=(data.Xv, np.full(len(data.Xv), -1)))


SEARCHED = [(text, validation, shots) for text in (True, False) for validation in (True, False) for shots in (1, 8)]


@pytest.mark.parametrize(("text", "validation", "shots"), SEARCHED)
def test_its_choices_reproduce_it_without_validation_bit_by_bit(text, validation, shots):
    data = few_shot(shots=shots, noise=1.6, text_noise=2.0)
    model = fit(data, CMM(max_steps=100, random_state=2), text=text, validation=validation)
    again = fit(data, CMM(random_state=2, **model.chosen()), text=text, validation=False)
    np.testing.assert_array_equal(again.scores(data.Xt), model.scores(data.Xt))
    np.testing.assert_array_equal(again.losses_, model.losses_)
    assert again.diagnosis_["chosen_on"] == "nothing"
    assert again.chosen() == model.chosen()


def test_what_is_given_is_used_and_only_the_rest_is_chosen():
    data = few_shot(shots=8, text_noise=2.0)
    given = {"steps": 33, "zero_shot_weight": 0.3, "init": "kaiming", "batch_size": 5, "learning_rate": 1e-3}
    model = fit(data, CMM(random_state=0, **given))
    assert (model.chosen(), model.diagnosis_["chosen_on"]) == (
        {"steps": 33, "zero_shot_weight": 0.3, "init": "kaiming", "layers": 1},
        "nothing",
    )
    assert len(model.losses_) == 33
    assert fit(data, CMM(steps=20, random_state=0)).steps_ == 20
    assert fit(data, CMM(zero_shot_weight=0.3, max_steps=64, random_state=0)).zero_shot_weight_ == 0.3


def test_where_learning_does_not_help_it_is_zero_shot():
    """Random labels: no step is taken, and the probabilities are those of zero-shot, calibrated."""
    data = few_shot(shots=8, text_noise=0.3)
    y = np.random.default_rng(0).permutation(data.y)
    model = CMM(random_state=0, max_steps=64).fit(data.X, y, text=data.text)
    assert model.chosen() == {"steps": 0, "zero_shot_weight": 1.0, "init": "zero", "layers": 1}
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    np.testing.assert_allclose(model.scores(data.Xt), 2 * zero_shot.scores(data.Xt), atol=1e-3)
    assert model.diagnosis_["images_moved"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "weight"),
    [({"zero_shot_weight": 0.3}, 0.3), ({"training_zero_shot_weight": 0.4, "min_zero_shot_weight": 0.2}, 0.4)],
)
def test_the_candidate_without_a_step_has_the_weight_that_is_given_or_else_that_of_training(settings, weight):
    data = few_shot(shots=8, text_noise=0.3)
    y = np.random.default_rng(0).permutation(data.y)
    model = CMM(random_state=0, max_steps=32, **settings).fit(data.X, y, text=data.text)
    assert (model.steps_, model.zero_shot_weight_) == (0, weight)


def test_with_one_image_a_class_and_nothing_to_choose_on_it_takes_few_steps():
    data = few_shot(shots=1)
    model = fit(data, CMM(random_state=0), validation=False)
    assert (model.steps_, model.zero_shot_weight_) == CAREFUL
    zero_shot = torch.from_numpy(300 * data.X @ data.text.T)  # of labeled images, which it did not learn from
    expected = expected_temperature(zero_shot / 3, torch.from_numpy(data.y)) * 3
    assert model.temperature_ == pytest.approx(expected, rel=1e-4)
    moved = model.diagnosis_
    assert 0 < moved["images_moved"] < 0.05
    assert (model.step_curve_, model.fusion_curve_) == ({}, {})


def test_the_search_stops_without_gain_and_reports_its_steps():
    data = few_shot(shots=8, noise=1.6, text_noise=2.0)
    model = fit(data, CMM(random_state=0, learning_rate=3e-3))
    seen = model.step_curve_
    assert seen["steps"][:4] == [0, 16, 23, 32]
    assert 256 <= seen["steps"][-1] < 4096
    assert model.diagnosis_["step"] in seen["steps"]
    assert len(model.losses_) == model.diagnosis_["step"]
    assert model.diagnosis_["chosen_on"] == "validation and cross-validation"
    assert {len(values) for values in seen.values()} == {len(seen["steps"])}


def test_a_class_without_images_keeps_its_text_and_is_not_pushed_away():
    data = few_shot(shots=8, classes=8, text_noise=1.5)
    kept = data.y < 6
    model = CMM(random_state=0, steps=200).fit(data.X[kept], data.y[kept], text=data.text)
    np.testing.assert_allclose(model.prototypes_[6:], model.text_[6:], atol=1e-6)
    literal = CMM(preset="paper", steps=200, random_state=0).fit(data.X[kept], data.y[kept], text=data.text)
    assert (literal.prototypes_[6:] - literal.text_[6:]).abs().max() > 0.005


def test_text_alone_can_be_trained():
    data = few_shot(shots=8, text_noise=2.0)
    model = fit(data, cmm(map=False))
    unit = data.Xt / np.linalg.norm(data.Xt, axis=1, keepdims=True)
    np.testing.assert_allclose(model.transform(data.Xt), unit, atol=1e-6)
    assert model.diagnosis_["texts_moved"] > 0.001
    np.testing.assert_allclose(model.scores(data.Xt), literal_scores(model, data.Xt), atol=2e-4)


def test_ablation_reports_accuracy_without_map_and_without_fusion():
    data = few_shot(shots=8)
    model = fit(data, cmm(steps=300, learning_rate=1e-3))
    found = model.diagnosis_
    own, clip = model.transform(data.Xv) @ model.prototypes_.numpy().T, data.Xv @ data.text.T

    def right(scores):
        return pytest.approx(np.mean(scores.argmax(1) == data.yv))

    assert found["validation_accuracy"] == right(model.scores(data.Xv))
    assert found["validation_accuracy_without_fusion"] == right(own)
    assert found["validation_accuracy_without_map"] == right(
        data.Xv @ model.prototypes_.numpy().T + model.zero_shot_weight_ * clip
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


def test_seeds_differ_and_none_draws_again():
    data = few_shot()
    scores = [fit(data, cmm(batch_size=8, random_state=seed)).scores(data.Xt) for seed in (0, 1, None, None)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(scores, 2)) > 1e-3


def test_contradictions_are_refused_in_a_sentence():
    data = few_shot()
    with pytest.raises(InputError, match="min_zero_shot_weight ≤ max_zero_shot_weight"):
        fit(data, cmm(min_zero_shot_weight=0.5, max_zero_shot_weight=0.2))
    with pytest.raises(InputError, match="min_learning_rate ≤ learning_rate"):
        fit(data, cmm(learning_rate=1e-6, min_learning_rate=1e-5))
    with pytest.raises(UnknownNameError, match="did you mean 'kaiming'"):
        fit(data, cmm(init="kaimin"))
    with pytest.raises(InputError, match="layers"):
        fit(data, cmm(layers=0))


def data_set(name: str) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray | None]:
    """The parts of a file of real CLIP features, and the text of its classes."""
    with np.load(DATA / f"{name}.npz") as file:
        row = {int(c): i for i, c in enumerate(file["text_labels"])}
        parts = {}
        for part in ("shots1", "shots4", "val", "test"):
            X, y = file[f"{part}_images"].astype(np.float32), file[f"{part}_labels"]
            kept = np.isin(y, list(row))
            parts[part] = X[kept], np.array([row[int(c)] for c in y[kept]])
        return parts, file["text"].astype(np.float32)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real CLIP features of ../shared/data are not here")
@pytest.mark.parametrize("shots", ["shots1", "shots4"])
@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("method", [CMM, LFA])
def test_with_text_real_images_are_classified_as_well_as_without_training(shots, validated, method):
    parts, text = data_set("caltech101")
    Xv, yv = parts["val"]
    few = np.sort(np.unique(yv, return_index=True)[1])  # one validation image per class
    held_out = {"validation": (Xv[few], yv[few])} if validated else {}
    X, y = parts[shots]
    model = method(random_state=0).fit(X, y, text=text, **held_out)
    zero_shot = ZeroShot().fit(X, text=text).score(*parts["test"])
    assert model.score(*parts["test"]) >= zero_shot - 0.003
    confidence = model.predict_proba(parts["test"][0]).max(axis=1).mean()
    assert confidence == pytest.approx(model.score(*parts["test"]), abs=0.06)
