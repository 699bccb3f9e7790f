"""LFA against its equations written out, its limits, and the mode without labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import few_shot
from scipy.linalg import orthogonal_procrustes

from modalign.core.errors import InputError
from modalign.core.features import ClassText
from modalign.linalg.ranking import MapRanking
from modalign.methods.baselines import lfa
from modalign.methods.baselines.lfa import LFA
from modalign.methods.baselines.lfa_refinement import Refinement, RefinementSettings
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.divisions import selection_splits
from modalign.methods.contract.vectors import Problem

QUIET = {"noise": 0.0, "dropout": 0.0, "random_state": 0}


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def literal_loss(W, X, y, T, k, s):
    """The adaptive re-ranking loss, one image and one rival at a time."""
    total = 0.0
    for x, own in zip(X, y, strict=True):
        z = x @ W
        z = z / np.linalg.norm(z)
        distance = [np.linalg.norm(z - t) for t in T]
        rivals = sorted((c for c in range(len(T)) if c != own), key=lambda c: distance[c])[:k]
        for c in rivals:
            total += max(0.0, distance[own] - distance[c] + (1 - T[own] @ T[c]) / s) / k
    return total / len(X)


def test_the_start_is_the_isometry_of_scipy_shrunk_to_the_identity():
    rng = np.random.default_rng(0)
    T = unit(rng.normal(size=(30, 24)))  # more classes than dimensions determine all of the isometry
    y = np.arange(150) % 30
    X = unit(T[y] + 0.3 * rng.normal(size=(150, 24)))
    for beta in (0.0, 0.4):
        method = LFA(identity_weight=beta, steps=0).fit(X, y, text=T)
        isometry, _ = orthogonal_procrustes(X, T[y])
        expected = isometry - beta * (isometry - np.eye(24))
        np.testing.assert_allclose(method.weight_, expected, atol=1e-5)


def test_the_isometry_is_orthogonal_where_the_classes_are_fewer_than_the_dimensions():
    data = few_shot()
    method = LFA(identity_weight=0.0, steps=0).fit(data.X, data.y, text=data.text)
    assert method.diagnosis_["orthogonality_error"] < 1e-5


def test_beta_one_without_refinement_is_zero_shot():
    data = few_shot()
    method = LFA(identity_weight=1.0, steps=0).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.weight_, np.eye(24), atol=1e-6)
    np.testing.assert_allclose(
        method.scores(data.Xt), ZeroShot().fit(data.X, text=data.text).scores(data.Xt), atol=1e-3
    )


@pytest.mark.parametrize(("k", "s"), [(1, 4.0), (3, 2.0), (9, 1.0)])
def test_the_loss_is_that_of_the_paper_and_its_gradient_that_of_differences(k, s):
    rng = np.random.default_rng(1)
    X, T = rng.normal(size=(7, 6)), unit(rng.normal(size=(5, 6)))
    y, W = rng.integers(0, 5, size=7), np.eye(6) + 0.3 * rng.normal(size=(6, 6))
    Z = torch.from_numpy(X @ W)
    loss, gradient = MapRanking(torch.from_numpy(T), k, s).differentiate(Z, torch.from_numpy(y))
    assert loss.item() == pytest.approx(literal_loss(W, X, y, T, min(k, 4), s), abs=1e-9)
    step = 1e-6
    for i, j in [(0, 0), (2, 5), (6, 3), (4, 1)]:
        push = step * np.outer(np.eye(7)[i], np.eye(6)[j])
        up, down = (literal_loss(np.eye(6), X @ W + moved, y, T, min(k, 4), s) for moved in (push, -push))
        assert gradient[i, j].item() == pytest.approx((up - down) / (2 * step), abs=1e-5)


def test_an_image_on_its_text_has_a_finite_gradient():
    T = torch.eye(3)
    loss, gradient = MapRanking(T, 2, 0.5).differentiate(T.clone(), torch.arange(3))
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_refinement_lowers_the_loss_it_follows():
    data = few_shot(noise=1.6)
    method = LFA(identity_weight=0.9, steps=150, **QUIET).fit(data.X, data.y, text=data.text)
    before, after = (
        literal_loss(W, data.X.astype(float), data.y, data.text.astype(float), 3, 4.0)
        for W in (
            LFA(identity_weight=0.9, steps=0).fit(data.X, data.y, text=data.text).weight_.numpy(),
            method.weight_.numpy(),
        )
    )
    assert method.losses_[0].item() == pytest.approx(before, rel=1e-4)
    assert after < 0.5 * before


def test_cached_scores_choose_the_beta_that_refitting_would():
    data = few_shot(noise=1.6, text_noise=2.5)
    held_out = (data.Xv, data.yv)
    method = LFA(steps=0, criterion="accuracy", random_state=0)
    chosen = method.fit(data.X, data.y, text=data.text, validation=held_out)
    divided = selection_splits(Problem(*map(torch.from_numpy, (data.X, data.y)), 5, torch.ones(1), None, None), 0)

    def right(beta: float) -> int:
        """On validation images, and on those held out of the folds."""
        found = LFA(identity_weight=beta, steps=0).fit(data.X, data.y, text=data.text).predict(data.Xv) == data.yv
        for part in divided.parts:
            other = LFA(identity_weight=beta, steps=0).fit(data.X[part.rows], data.y[part.rows], text=data.text)
            found = np.concatenate([found, other.predict(part.X.numpy()) == part.y.numpy()])
        return found.sum()

    scores = {beta: right(beta) for beta in lfa.BETAS}
    assert scores[chosen.identity_weight_] == max(scores.values())
    assert chosen.identity_weight_ < 1
    assert chosen.diagnosis_["chosen_on"] == "validation and cross-validation"


def test_where_the_choice_comes_from():
    data, one = few_shot(shots=6), few_shot(shots=1)
    several = LFA().fit(data.X, data.y, text=data.text)
    single = LFA().fit(one.X, one.y, text=one.text)
    given = LFA(steps=3, identity_weight=0.25).fit(data.X, data.y, text=data.text)
    assert several.diagnosis_["chosen_on"] == "cross-validation"
    assert (single.chosen(), single.diagnosis_["chosen_on"]) == (
        {"identity_weight": lfa.CAREFUL_BETA, "steps": 0},
        "nothing",
    )
    assert (given.chosen(), given.diagnosis_["chosen_on"]) == ({"identity_weight": 0.25, "steps": 3}, "nothing")
    assert len(given.losses_) == 3
    assert LFA(steps=7).fit(data.X, data.y, text=data.text).steps_ == 7
    assert LFA(identity_weight=0.4).fit(data.X, data.y, text=data.text).identity_weight_ == 0.4


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("validation", [True, False])
def test_its_choices_reproduce_it_without_validation(text, validation):
    data = few_shot(shots=8, noise=1.8, text_noise=2.0)
    labels = {"text": data.text} if text else {}
    held = {"validation": (data.Xv, data.yv)} if validation else {}
    method = LFA(random_state=3).fit(data.X, data.y, **labels, **held)
    again = LFA(random_state=3, **method.chosen()).fit(data.X, data.y, **labels)
    np.testing.assert_array_equal(again.scores(data.Xt), method.scores(data.Xt))
    assert again.diagnosis_["chosen_on"] == "nothing"


def test_the_steps_of_a_longer_schedule_are_the_first_of_it():
    data = few_shot(shots=8)
    long, short = (
        LFA(identity_weight=0.9, steps=k, random_state=0).fit(data.X, data.y, text=data.text) for k in (60, 20)
    )
    np.testing.assert_array_equal(long.losses_[:20], short.losses_)


def test_where_learning_does_not_help_it_stays_at_zero_shot():
    """Random labels: the isometry is that of noise, and nothing but the smallest part of it is kept."""
    data = few_shot(shots=8, text_noise=0.3)
    y = np.random.default_rng(0).permutation(data.y)
    method = LFA(random_state=0).fit(data.X, y, text=data.text)
    assert method.identity_weight_ >= lfa.CAREFUL_BETA
    assert method.steps_ == 0
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    assert method.score(data.Xt, data.yt) >= zero_shot.score(data.Xt, data.yt)


def test_the_text_stands_in_for_a_class_without_images():
    """The map that carries the labeled classes to their texts leaves the texts of the others where they are."""
    data = few_shot(shots=8, classes=8)
    kept = data.y < 5
    method = LFA(identity_weight=0.0, steps=0).fit(data.X[kept], data.y[kept], text=data.text)
    moved = unit(data.text @ method.weight_.numpy())
    alone = LFA(identity_weight=0.0, steps=0).fit(data.X[kept], data.y[kept], text=data.text[:5])
    without = unit(data.text @ alone.weight_.numpy())
    assert ((moved * data.text).sum(axis=1)[5:] > 0.85).all()
    assert (without * data.text).sum(axis=1)[5:].mean() < 0.8


def test_without_text_it_does_not_use_the_held_out_images(monkeypatch):
    """With class means of all images the identity would have no error."""
    data = few_shot(shots=6)
    seen = []
    means = lfa.class_means
    monkeypatch.setattr(lfa, "class_means", lambda X, y, n: seen.append(len(X)) or means(X, y, n))
    LFA(steps=0).fit(data.X, data.y)
    assert sorted(seen) == [20, 25, 25, 25, 25, 30] or sorted(seen) == [24, 24, 24, 24, 24, 30]


def test_validation_keeps_the_best_moment():
    data = few_shot(noise=1.8)
    method = LFA(criterion="accuracy", random_state=0)
    method.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    found = method.diagnosis_
    assert found["validation_accuracy"] >= found["validation_accuracy_zero_shot"]
    assert 0 <= found["step"] <= 200


def balanced(seed=0, n=400, classes=8, d=32):
    """Images turned away from their texts by one rotation in part of the space: what LFA can undo without labels."""
    rng = np.random.default_rng(seed)
    T = unit(rng.normal(size=(classes, d)))
    y = np.arange(n) % classes
    turn, _ = np.linalg.qr(np.eye(d) + 0.35 * rng.normal(size=(d, d)))
    turn *= np.sign(np.diag(turn))
    return unit((T[y] + 0.15 * rng.normal(size=(n, d))) @ turn), y, T


def test_without_labels_it_undoes_a_rotation_that_zero_shot_suffers_from():
    X, y, T = balanced()
    method = LFA(identity_weight=0.0, steps=50, random_state=0).fit(X, text=T)
    zero_shot = ZeroShot().fit(X, text=T).score(X, y)
    assert zero_shot < 0.9
    assert np.mean(method.transduction_ == y) > zero_shot + 0.05
    assert method.score(X, y) > zero_shot + 0.05
    assert method.diagnosis_["classes_changed"] > 0


def test_without_labels_classes_are_of_equal_size_unless_relaxed():
    X, y, T = balanced()
    kept = np.flatnonzero((y != 0) | (np.arange(len(y)) < 40))
    tight, loose = (LFA(steps=0, rho=rho, epsilon=0.01).fit(X[kept], text=T).transduction_ for rho in (None, 1e-3))
    spread = [np.bincount(found, minlength=8).std() for found in (tight, loose)]
    assert spread[0] < spread[1]


def test_labels_switch_the_unsupervised_mode_off():
    data = few_shot()
    method = LFA(steps=0).fit(data.X, text=data.text)
    assert len(method.transduction_) == len(data.X)
    method.fit(data.X, data.y, text=data.text)
    assert not hasattr(method, "transduction_")


def test_unlabeled_rows_beside_labeled_ones_are_left_out():
    data, extra = few_shot(), few_shot(seed=5)
    X, y = np.concatenate([data.X, extra.X]), np.concatenate([data.y, np.full(len(extra.X), -1)])
    first, second = (LFA(steps=20, random_state=0).fit(*part, text=data.text) for part in ((data.X, data.y), (X, y)))
    np.testing.assert_array_equal(first.scores(data.Xt), second.scores(data.Xt))


def test_mistakes_are_one_sentence():
    data = few_shot()
    with pytest.raises(InputError, match=r"LFA\(identity_weight=…\)"):
        LFA(identity_weight=1.5).fit(data.X, data.y, text=data.text)
    with pytest.raises(InputError, match="requires y"):
        LFA().fit(data.X)


@pytest.mark.parametrize(("noise", "dropout"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.3)])
def test_noise_and_dropout_change_the_training_images_as_documented(noise, dropout, monkeypatch):
    """Noise has its deviation in every entry; dropout zeroes its share and enlarges the rest, so that means stay."""
    rng = np.random.default_rng(0)
    X = torch.from_numpy(unit(rng.normal(size=(400, 24))).astype(np.float32))
    y, T = torch.arange(400) % 5, torch.from_numpy(unit(rng.normal(size=(5, 24))).astype(np.float32))
    seen = []
    monkeypatch.setattr(MapRanking, "differentiate", lambda self, Z, y: (seen.append((Z, y)), (Z.sum(), 0 * Z))[1])
    settings = RefinementSettings([0.1], 400, 0.0, 3, 4.0, noise, dropout, random_state=0)
    Refinement(torch.eye(24), X, y, T, settings).differentiate()
    ((Z, labels),) = seen
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, y[order])
    change = Z - X[order]
    if not noise and not dropout:
        assert torch.equal(Z, X[order])
    elif noise:
        assert change.std().item() == pytest.approx(noise, rel=0.05)
        assert change.mean().item() == pytest.approx(0, abs=0.01)
    else:
        assert (Z == 0).double().mean().item() == pytest.approx(dropout, abs=0.02)
        torch.testing.assert_close(Z[Z != 0], X[order][Z != 0] / (1 - dropout))


def test_a_map_to_class_means_is_not_transferred_to_the_text_of_other_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 6)
    X = (np.eye(3, 8)[y] + 0.2 * rng.normal(size=(18, 8))).astype(np.float32)
    other = ClassText(np.eye(8, dtype=np.float32)[3:6], ("a", "b", "c"))
    settings = {"steps": 4, "identity_weight": 0.5, "random_state": 0}
    assert LFA(**settings).fit(X, y, text=np.eye(3, 8)).for_classes(other).predict(np.eye(8)[3:6]).tolist() == [*"abc"]
    with pytest.raises(
        InputError, match=r"^Expected LFA fitted with text=…, got one fitted without, [^.;]+; [^.;]+\.$"
    ):
        LFA(**settings).fit(X, y).for_classes(other)
