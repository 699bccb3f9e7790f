"""The automatic choice: candidates are evaluated on held-out images, zero-shot can win, the ensemble is greedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from problems import few_shot

from modalign.core.errors import InputError
from modalign.core.features import Features, concatenate
from modalign.methods.anchored.anchored_gaussian import AnchoredGaussian
from modalign.methods.auto import auto, auto_one_shot, auto_pool, auto_timing, auto_trials
from modalign.methods.auto.auto import Auto
from modalign.methods.auto.auto_timing import COSTS
from modalign.methods.auto.auto_unlabeled import agreed
from modalign.methods.auto.ensemble import greedy_ensemble, log_probabilities, temperature_of
from modalign.methods.baselines.gda import GDA
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.gpua.gpua import GPUA
from modalign.model.persistence import load_model, save_model

REAL = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"
FAST = {"candidates": ("anchored_gaussian", "tip_adapter"), "random_state": 0}


def logits(n: int = 300, classes: int = 4, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """An accurate model, one with other errors, and a random one."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    right = np.eye(classes)[y]
    return {
        "good": torch.from_numpy(2 * right + rng.normal(size=(n, classes))),
        "other": torch.from_numpy(30 * right + 20 * rng.normal(size=(n, classes))),
        "noise": torch.from_numpy(rng.normal(size=(n, classes))),
    }, torch.from_numpy(y)


def test_the_greedy_ensemble_is_that_of_a_plain_loop():
    found, y = logits()
    ensemble = greedy_ensemble(found, y)
    calibrated = {name: log_probabilities(z, temperature_of(z, y)) for name, z in found.items()}
    picked: list[str] = []
    best = -np.inf
    while len(picked) < 25:
        scores = {
            name: -F.cross_entropy(sum(calibrated[p] for p in [*picked, name]) / (len(picked) + 1), y).item()
            for name in found
        }
        name = max(scores, key=scores.get)
        if scores[name] < best + 1e-4:
            break
        best = scores[name]
        picked.append(name)
    assert ensemble.weights == {name: picked.count(name) / len(picked) for name in dict.fromkeys(picked)}
    assert "noise" not in ensemble.weights
    assert set(ensemble.weights) == {"good", "other"}
    combined = F.cross_entropy(ensemble.combine(found), y)
    assert combined < min(F.cross_entropy(z, y) for z in calibrated.values())


def test_the_combination_is_calibrated_and_growth_raises_the_mean_log_odds():
    found, y = logits()
    ensemble = greedy_ensemble(found, y)
    assert temperature_of(ensemble.combine(found), y) == pytest.approx(1, abs=1e-3)

    def log_odds(growth: float) -> float:
        final = greedy_ensemble(found, y, growth=growth)
        assert final.sharpness == ensemble.sharpness
        p = (final.final_sharpness / final.sharpness * final.combine(found)).softmax(dim=1).amax(dim=1).mean()
        return float(torch.logit(p))

    assert log_odds(2.0) - log_odds(1.0) == pytest.approx(0.5, abs=1e-3)


def test_held_out_predictions_are_calibrated_and_the_final_models_are_surer():
    data = few_shot(shots=8, noise=1.4)
    model = Auto(**FAST).fit(data.X, data.y, text=data.text)
    rows, held_out = model.out_of_fold()
    assert temperature_of(torch.from_numpy(held_out), torch.from_numpy(data.y[rows])) == pytest.approx(1, abs=2e-2)
    combined = sum(
        w * log_probabilities(m._scores(torch.from_numpy(data.Xt)), t)
        for m, w, t in zip(model.members_, model.weights_, model.temperatures_, strict=True)
    )
    again = Auto(candidates=model.candidates_, random_state=0).fit(data.X, data.y, text=data.text)
    assert model.sharpness_ > 0
    np.testing.assert_allclose(again.scores(data.Xt), model.sharpness_ * combined, atol=1e-4)


def test_no_candidate_is_evaluated_on_its_training_images(monkeypatch):
    data, seen = few_shot(), []
    original = auto_pool.fit_member

    def spy(name, problem, seed, rows=None, **settings):
        model = original(name, problem, seed, rows, **settings)
        if rows is not None:
            scores = type(model)._scores
            fitted = {row.tobytes() for row in problem.X[rows].numpy()}

            def watched(X):
                assert not fitted & {row.tobytes() for row in X.numpy()}
                seen.append(len(X))
                return scores(model, X)

            model._scores = watched
        return model

    monkeypatch.setattr(auto_pool, "fit_member", spy)
    Auto(**FAST).fit(data.X, data.y, text=data.text)
    assert sum(seen) == 3 * len(data.X)  # zero-shot, and two candidates, each once for every image


def test_zero_shot_wins_where_labels_are_wrong():
    data, rng = few_shot(shots=20, noise=0.5, text_noise=0.1), np.random.default_rng(0)
    model = Auto(**FAST).fit(data.X, rng.permutation(data.y), text=data.text)
    # nothing can be learned: the answers stay near those of the text in spite of 100 labels
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    assert np.mean(model.predict(data.Xt) == zero_shot.predict(data.Xt)) > 0.9


def test_members_are_fitted_to_all_labeled_images():
    data = few_shot()
    model = Auto(**FAST).fit(data.X, data.y, text=data.text)
    sizes = {type(m).__name__: m.class_sizes_.sum() for m in model.members_ if hasattr(m, "class_sizes_")}
    assert all(float(size) == len(data.X) for size in sizes.values())
    expected = sum(
        w * log_probabilities(m._scores(torch.from_numpy(data.Xt)), t)
        for m, w, t in zip(model.members_, model.weights_, model.temperatures_, strict=True)
    )
    np.testing.assert_allclose(model.scores(data.Xt), model.sharpness_ * expected, atol=1e-4)


def test_time_is_kept_and_what_was_not_tried_is_named():
    data = few_shot()
    model = Auto(seconds=1e-9, random_state=0).fit(data.X, data.y, text=data.text)
    assert model.table_[1]["name"] == "anchored_gaussian"
    assert model.table_[1]["log_loss"] > 0  # the first candidate is always finished
    assert "cmm" in model.diagnosis_["not_tried"]
    assert {type(m).__name__ for m in model.members_} <= {"ZeroShot", "AnchoredGaussian"}


def test_the_candidates_that_were_judged_give_the_same_model_without_a_limit():
    data = few_shot()
    hurried = Auto(seconds=1e-9, random_state=0).fit(data.X, data.y, text=data.text)
    assert hurried.chosen() == {"candidates": ["zero_shot", "anchored_gaussian"]}
    again = Auto(random_state=0, **hurried.chosen()).fit(data.X, data.y, text=data.text)
    np.testing.assert_array_equal(again.scores(data.Xt), hurried.scores(data.Xt))


def test_without_labels_answers_are_those_on_which_the_candidates_agree():
    data = few_shot(shots=60, noise=0.6)
    model = Auto(random_state=0).fit(data.X, text=data.text)
    zero_shot = (data.X @ data.text.T).argmax(1)
    seed = int(np.random.default_rng(0).integers(2**31))
    one = AnchoredGaussian(random_state=seed).fit(data.X, text=data.text)
    other = GPUA(random_state=seed).fit(data.X, text=data.text)
    agree = one.transduction_ == other.transduction_
    np.testing.assert_array_equal(model.transduction_, np.where(agree, one.transduction_, zero_shot))
    new = one.predict(data.Xt), other.predict(data.Xt), (data.Xt @ data.text.T).argmax(1)
    np.testing.assert_array_equal(model.predict(data.Xt), np.where(new[0] == new[1], new[0], new[2]))
    assert model.diagnosis_["chosen_on"] == "agreement"
    assert model.diagnosis_["agree"] == pytest.approx(agree.mean())
    assert model.diagnosis_["changed"] == pytest.approx(np.mean(model.transduction_ != zero_shot))
    assert np.mean(model.transduction_ == data.y) > np.mean(zero_shot == data.y)


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_agreement_takes_zero_shot_where_there_is_none(seed, others):
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.randn(30, 4, generator=rng, dtype=torch.float64).log_softmax(dim=1) for _ in range(others + 1)]
    found = agreed(parts)
    np.testing.assert_allclose(found.exp().sum(dim=1), 1)
    for i in range(30):
        best = {int(part[i].argmax()) for part in parts[:-1]}
        assert int(found[i].argmax()) == (best.pop() if len(best) == 1 else int(parts[-1][i].argmax()))
        if not best:
            expected = torch.stack([part[i] for part in parts[:-1]]).exp().prod(dim=0) ** (1 / others)
            np.testing.assert_allclose(found[i].exp(), expected / expected.sum(), atol=1e-9)


@pytest.mark.parametrize("candidates", [["zero_shot"], ["transclip"], ["anchored_gaussian", "transclip", "lfa"]])
def test_without_labels_other_candidates_agree_likewise(candidates, tmp_path):
    data = few_shot(shots=20, noise=0.6)
    model = Auto(candidates=candidates, random_state=0).fit(data.X, text=data.text)
    assert model.candidates_ == [*(name for name in candidates if name != "zero_shot"), "zero_shot"]
    save_model(tmp_path / "model", model)
    again, _ = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.scores(data.Xt), model.scores(data.Xt))
    if candidates == ["zero_shot"]:
        np.testing.assert_array_equal(model.predict(data.Xt), (data.Xt @ data.text.T).argmax(1))
        np.testing.assert_array_equal(model.transduction_, (data.X @ data.text.T).argmax(1))


def test_without_labels_time_is_kept_and_what_was_not_tried_is_named():
    data = few_shot(shots=20)
    model = Auto(seconds=1e-9, random_state=0).fit(data.X, text=data.text)
    assert model.candidates_ == ["anchored_gaussian", "zero_shot"]
    assert model.diagnosis_["not_tried"] == "gpua"
    again = Auto(random_state=0, **model.chosen()).fit(data.X, text=data.text)
    np.testing.assert_array_equal(again.scores(data.Xt), model.scores(data.Xt))


@pytest.mark.skipif(not REAL.exists(), reason="needs real CLIP features beside the repository")
@pytest.mark.parametrize("kind", ["even", "16 per class", "half absent", "tail ×100"])
def test_without_labels_never_far_below_zero_shot_on_real_folders(kind):
    from bench.label_free import caltech, measure

    row = measure(caltech(), "auto", kind, seeds=1)
    assert min(row.transduction, row.new) > (1.0 if kind in ("even", "16 per class") else -1.0)


def test_a_candidate_that_is_no_method_on_vectors_is_refused():
    data = few_shot()
    for name in ("maple", "anchored_gausian"):
        with pytest.raises(InputError, match=f"method on vectors '{name}'"):
            Auto(candidates=(name,)).fit(data.X, data.y, text=data.text)


@pytest.mark.skipif(not REAL.exists(), reason="needs real CLIP features beside the repository")
@pytest.mark.parametrize("shots", [1, 4])
def test_never_below_zero_shot_and_calibrated_on_real_features(shots):
    from bench.accuracy import Dataset
    from modalign.linalg.calibration import expected_calibration_error

    data = Dataset.load("caltech101")
    (X, y), (Xv, yv) = data.parts[f"shots{shots}"], data.parts["val"]
    model = Auto(**FAST).fit(X, y, text=data.text)
    assert model.score(Xv, yv) >= np.mean((Xv @ data.text.T).argmax(1) == yv) - 0.003
    p = torch.from_numpy(model.predict_proba(Xv)).double()
    assert expected_calibration_error(p / p.sum(dim=1, keepdim=True), torch.from_numpy(yv)) < 0.05


@pytest.mark.parametrize("copied", ["views", "copies"])
def test_views_and_copies_of_one_image_do_not_make_a_class_large_enough_to_judge_by(copied):
    """With one image per class nothing can be held out, however often the image is repeated."""
    data = few_shot(shots=1)
    n = len(data.X)
    rng = np.random.default_rng(0)
    X = np.concatenate([data.X, data.X])
    if copied == "views":  # which share a name, not a vector
        X[n:] += 0.3 * rng.normal(size=data.X.shape).astype(np.float32)
        X = concatenate([Features(X[:n]), Features(X[n:])])
    model = Auto(**FAST).fit(X, np.tile(data.y, 2), text=data.text)
    assert model.diagnosis_["chosen_on"] == "nothing"
    assert model.out_of_fold() is None


def test_unlabeled_images_do_not_hide_labeled_ones():
    """Numbers of groups of labeled images and those of unlabeled ones are not mixed up."""
    data = few_shot(shots=3)
    loose = np.full(40, -1)
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(size=(40, data.X.shape[1])).astype(np.float32), data.X])
    problem = Auto()
    problem.encoder_ = None
    read = problem._read_problem(X, np.concatenate([loose, data.y]), data.text, None, None, None)
    sizes = auto_trials.images_per_class(read, auto_trials.groups_of_views(read))
    assert sizes.tolist() == np.bincount(data.y).tolist()


@pytest.mark.parametrize("slow", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("seconds", [4.0, 20.0, 60.0])
def test_time_is_kept_on_a_machine_of_any_speed(monkeypatch, slow, seconds):
    """Every candidate takes what it is known to take, times a factor; half of it in the fit to all images."""
    data, now, spent, costs = few_shot(), [0.0], {}, {name: with_text for name, (with_text, _) in COSTS.items()}
    fast = {"random_state": 0, "discriminant_weight": 0.1, "strength": 4.0, "unlabeled_weight": 1.0}

    def fit(name, problem, seed, rows=None, **settings):
        took = 0.0 if name == "zero_shot" else slow * costs[name] * (0.5 if rows is None else 0.1)
        now[0] += took
        spent[name] = spent.get(name, 0.0) + took
        X, y = (problem.X, problem.y) if rows is None else (problem.X[rows], problem.y[rows])
        return AnchoredGaussian(**fast).fit(X, y, text=problem.text[:, 0])

    for module in (auto, auto_pool, auto_timing):
        monkeypatch.setattr(module, "clock", lambda: now[0])
    monkeypatch.setattr(auto_pool, "fit_member", fit)
    model = Auto(candidates=list(costs), seconds=seconds, random_state=0).fit(data.X, data.y, text=data.text)
    assert now[0] <= max(seconds, slow * costs["anchored_gaussian"]) + 1e-9  # the first is always finished
    assert model.candidates_[:2] == ["zero_shot", "anchored_gaussian"]
    left = seconds - sum(slow * costs[name] for name in model.candidates_[1:])
    wasted = sum(spent.get(name, 0.0) for name in costs if name not in model.candidates_)
    assert all(max(1.0, slow) * cost > left for name, cost in costs.items() if name not in model.candidates_)
    assert wasted == 0 or slow > 1  # only a machine whose speed is not yet known is believed to be fast enough


def test_without_text_a_candidate_takes_its_time_without_text(monkeypatch):
    monkeypatch.setattr(auto_timing, "clock", lambda: 0.0)
    monkeypatch.setattr(auto_timing, "COSTS", {"gda": (9.0, 2.0)})
    for with_text, cost in ((True, 9.0), (False, 2.0)):
        for size in (0.5, 1.0, 3.0):  # a smaller problem is expected to take as long as that of the table
            timing = [
                auto_timing.Timing(d, size * auto_timing.SIZE, with_text) for d in (cost, cost * size, cost * size - 1)
            ]
            assert [one.has_time_for("gda") for one in timing] == [size <= 1, size >= 1, False]
    assert auto_timing.Timing(1.0, 1.0).has_time_for("unknown")


def test_what_proves_too_slow_is_given_up_between_fits(monkeypatch):
    """The second candidate takes a hundred times as long as elsewhere; its folds are not even begun."""
    data, now, fits = few_shot(), [0.0], []
    original = auto_pool.fit_member

    def fit(name, problem, seed, rows=None, **settings):
        now[0] += {"gda": 9.0}.get(name, 0.0)
        fits.append(name)
        return original(name, problem, seed, rows, **settings)

    for module in (auto, auto_pool, auto_timing):
        monkeypatch.setattr(module, "clock", lambda: now[0])
    monkeypatch.setattr(auto_pool, "fit_member", fit)
    names = ["anchored_gaussian", "gda", "tip_adapter"]
    model = Auto(candidates=names, seconds=10, random_state=0).fit(data.X, data.y, text=data.text)
    assert model.candidates_ == ["zero_shot", "anchored_gaussian"]
    assert fits.count("gda") == 1
    assert now[0] == 9.0
    assert "tip_adapter" not in fits  # on so slow a machine


def test_one_label_per_class_moves_the_answers_in_proportion_to_the_labels():
    """The candidates have n / (n + 10) of the weight, less where classes have no label; zero-shot has the rest."""
    data = few_shot(shots=1)
    C = len(data.text)
    model = Auto(random_state=0).fit(data.X, data.y, text=data.text)
    weights = dict(zip([type(m).__name__ for m in model.members_], model.weights_, strict=True))
    assert weights["ZeroShot"] == pytest.approx(10 / (C + 10))
    assert weights["CLAP"] == weights["AnchoredGaussian"] == pytest.approx(C / (C + 10) / 2)
    half = Auto(random_state=0).fit(data.X[: C // 2], data.y[: C // 2], text=data.text)
    assert max(half.weights_) == pytest.approx(1 - (C // 2) / C * (C // 2) / (C // 2 + 10))
    X = torch.from_numpy(data.Xt)
    parts = [w * m._scores(X).double().log_softmax(1) for w, m in zip(model.weights_, model.members_, strict=True)]
    np.testing.assert_allclose(model.scores(data.Xt), model.sharpness_ * sum(parts), atol=1e-4)
    assert model.candidates_ == ["zero_shot", "anchored_gaussian", "clap"]
    again = Auto(random_state=0, **model.chosen()).fit(data.X, data.y, text=data.text)
    np.testing.assert_array_equal(again.scores(data.Xt), model.scores(data.Xt))
    hurried = Auto(random_state=0, seconds=1e-9).fit(data.X, data.y, text=data.text)
    assert hurried.diagnosis_["not_tried"] == "clap"


def test_one_label_per_class_without_text_is_a_mixture_of_two_discriminants(monkeypatch):
    """3/4 anchored Gaussian and 1/4 GDA, of which only the former has a use for unlabeled images."""
    data = few_shot(shots=1)
    model = Auto(random_state=0).fit(data.X, data.y)
    seed = int(np.random.default_rng(0).integers(2**31))
    members = [AnchoredGaussian(random_state=seed).fit(data.X, data.y), GDA().fit(data.X, data.y)]
    parts = [torch.from_numpy(m.scores(data.Xt)).double() / m.temperature_ for m in members]
    expected = 0.75 * parts[0].log_softmax(1) + 0.25 * parts[1].log_softmax(1)
    np.testing.assert_allclose(model.scores(data.Xt), expected, atol=1e-4)
    assert model.weights_.sum() == 1
    loose = Auto(random_state=0).fit(np.concatenate([data.X, data.Xt]), np.append(data.y, [-1] * len(data.Xt)))
    hurried = Auto(random_state=0, seconds=1e-9)
    monkeypatch.setattr(auto_one_shot, "clock", lambda: np.inf)
    for other in (loose, hurried.fit(data.X, data.y)):
        assert other.weights_.tolist() == [1.0]
        assert isinstance(other.members_[0], AnchoredGaussian)
    assert hurried.diagnosis_["not_tried"] == "gda"


@pytest.mark.skipif(not REAL.exists(), reason="needs real CLIP features beside the repository")
def test_one_image_per_class_without_text_is_calibrated_on_real_features():
    """Nothing can be held out there, so the temperature is a constant of the dimension."""
    from bench.accuracy import Dataset
    from modalign.linalg.calibration import expected_calibration_error

    data = Dataset.load("caltech101")
    (X, y), (Xv, yv) = data.parts["shots1"], data.parts["val"]
    p = torch.from_numpy(Auto(random_state=0).fit(X, y).predict_proba(Xv)).double()
    assert expected_calibration_error(p / p.sum(dim=1, keepdim=True), torch.from_numpy(yv)) < 0.05


@pytest.fixture(scope="module")
def digit_vectors():
    """Quarters of the digits: one to draw labels from, one to mark; and the texts."""
    from modalign.data.digits import DIGIT_TEMPLATES, load_digits
    from modalign.data.text.descriptions import sentences
    from modalign.encoders import load_encoder

    items, encoder = load_digits(), load_encoder("tiny")
    X = encoder.embed_images(items)
    text = encoder.embed_texts(sentences(items.class_names, DIGIT_TEMPLATES), class_names=items.class_names)
    order = np.random.default_rng(0).permutation(len(X))
    return X.select(order[: len(X) // 4]), X.select(order[len(X) // 4 : len(X) // 2]), text


@pytest.mark.parametrize("shots", [1, 2])
def test_never_below_zero_shot_on_digits(digit_vectors, shots):
    """Six draws of 10 or 20 labels. 449 images: 0.3 points are 1.3 images."""
    pool, judged, text = digit_vectors
    zero_shot = ZeroShot().fit(judged, text=text).score(judged)
    names = None if shots == 1 else ("anchored_gaussian", "gda", "tip_adapter", "linear_probe")
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(pool))
        rows = np.concatenate([order[pool.labels[order] == c][:shots] for c in range(10)])
        model = Auto(candidates=names, random_state=0).fit(pool.select(rows), text=text)
        assert model.score(judged) >= zero_shot - 0.003


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("method", [AnchoredGaussian, GDA])
def test_discriminants_without_text_calibrate_themselves_on_real_features(digit_vectors, method, shots):
    """By cross-validation; with one image per class, where nothing can be held out, by a constant."""
    pool, judged, _ = digit_vectors
    gaps = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(pool))
        rows = np.concatenate([order[pool.labels[order] == c][:shots] for c in range(10)])
        p = torch.from_numpy(method(random_state=0).fit(pool.select(rows)).predict_proba(judged)).double()
        gaps.append(float(p.amax(dim=1).mean()) - np.mean(p.argmax(dim=1).numpy() == judged.labels))
    assert abs(np.mean(gaps)) < 0.15  # untempered, confidence exceeds accuracy by 0.2 and more


def test_one_label_per_class_without_text_takes_the_given_candidates() -> None:
    data = few_shot(shots=1)
    model = Auto(candidates=["gda", "linear_probe"], random_state=0).fit(data.X, data.y)
    assert list(model.candidates_) == ["gda", "linear_probe"]
    assert [row["weight"] for row in model.table_] == [0.5, 0.5]
    with pytest.raises(InputError, match="did you mean"):
        Auto(candidates=["linear_prob"]).fit(data.X, data.y)
    usual = Auto(random_state=0).fit(data.X, data.y)
    again = Auto(random_state=0, **usual.chosen()).fit(data.X, data.y)
    np.testing.assert_array_equal(again.scores(data.Xt), usual.scores(data.Xt))
