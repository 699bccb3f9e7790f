"""Figures of the papers on made-up data with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from modalign.core.errors import InputError
from modalign.evaluate.metrics import Interval
from modalign.report.papers.crop_figures import crop_weight_density
from modalign.report.papers.embedding import embedding_map
from modalign.report.papers.outcomes import base_new_bars, error_reversal, per_class_comparison
from modalign.report.papers.pair_similarity import matching_matrix, similarity_histograms, similarity_kinds
from modalign.report.papers.sweeps import MethodCost, cost_bubbles, sweep_curve
from modalign.report.style import Picture


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def is_drawn(picture: Picture) -> bool:
    return picture.svg.startswith("<svg") and "nan" not in picture.svg.lower().replace("nanum", "")


def test_pairs_are_sorted_by_kind() -> None:
    T = np.eye(3)
    X = np.array([[2.0, 0, 0], [1, 1, 0]])
    kinds = similarity_kinds(X, T, [0, 1])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(kinds["matching"], [1, half])
    np.testing.assert_allclose(np.sort(kinds["not matching"]), [0, 0, 0, half])
    np.testing.assert_allclose(kinds["two texts"], np.zeros(3))
    for wrong in ([0], [0, 3], [0, -1]):
        with pytest.raises(InputError):
            similarity_kinds(X, T, wrong)


def test_histograms_have_area_one_and_show_their_means(rng: np.random.Generator) -> None:
    picture = similarity_histograms({"near": rng.normal(0.8, 0.05, 400), "far": rng.normal(0.1, 0.1, 900)})
    widths = np.diff(picture.data["edges"])
    for name in ("near", "far"):
        assert (picture.data[name] * widths).sum() == pytest.approx(1)
    assert "near 0.79" in picture.alt
    assert is_drawn(picture)
    with pytest.raises(InputError):
        similarity_histograms({"none": []})


@pytest.mark.parametrize("n_classes", [2, 40])
def test_the_matching_matrix_is_the_mean_probability_per_class(n_classes: int, rng: np.random.Generator) -> None:
    P = rng.dirichlet(np.ones(n_classes), 5 * n_classes)
    y = np.tile(np.arange(n_classes), 5)
    picture = matching_matrix(P, y, [f"class {k}" for k in range(n_classes)])
    for k in (0, n_classes - 1):
        np.testing.assert_allclose(
            picture.data["matrix"][k], np.mean([p for p, c in zip(P, y, strict=True) if c == k], 0)
        )
    np.testing.assert_allclose(picture.data["matrix"].sum(axis=1), 1)
    assert is_drawn(picture)
    with pytest.raises(InputError, match="each of the"):
        matching_matrix(P[:1], y[:1], [f"class {k}" for k in range(n_classes)])


def test_neighbors_in_space_are_neighbors_on_the_map(rng: np.random.Generator) -> None:
    centers = 10 * np.eye(3, 16)
    y = np.repeat(np.arange(3), 12)
    X = centers[y] + 0.3 * rng.standard_normal((36, 16))
    picture = embedding_map(X, y, ["a", "b", "c"])
    flat = picture.data["images"]
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2) + np.diag([np.inf] * 36)
    assert (y[distance.argmin(axis=1)] == y).all()
    assert is_drawn(picture)
    again = embedding_map(X, y, ["a", "b", "c"])
    np.testing.assert_array_equal(flat, again.data["images"])


def test_class_vectors_stand_among_their_images_in_spite_of_a_gap(rng: np.random.Generator) -> None:
    y = np.repeat(np.arange(3), 12)
    gap = 4 * np.eye(1, 16, 9)[0]
    T = np.eye(3, 16) + gap
    X = np.eye(3, 16)[y] + 0.1 * rng.standard_normal((36, 16))
    data = embedding_map(X, y, ["a", "b", "c"], texts=T).data
    means = np.stack([data["images"][y == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(data["texts"][:, None] - means[None], axis=2).argmin(axis=1)
    assert nearest.tolist() == [0, 1, 2]


def test_few_or_equal_points_are_drawn_too() -> None:
    assert is_drawn(embedding_map(np.ones((2, 3)), [0, -1], ["a"]))
    with pytest.raises(InputError):
        embedding_map(np.full((2, 3), np.nan), [0, 0], ["a"])


def test_a_sweep_keeps_its_points_in_order_with_their_intervals() -> None:
    curves = {"ours": {0.5: Interval(0.9, 0.88, 0.92, 3), 0.1: Interval(0.8, 0.79, 0.81, 3)}, "theirs": {0.1: 0.7}}
    picture = sweep_curve(curves, quantity="λ")
    np.testing.assert_allclose(picture.data["ours"], [[0.1, 0.8, 0.79, 0.81], [0.5, 0.9, 0.88, 0.92]])
    assert np.isnan(picture.data["theirs"][0, 2:]).all()
    assert "ours highest at 0.5 with 90" in picture.alt
    assert "ours 80 at 0.1 and 90 at 0.5" in sweep_curve(curves, quantity="λ", describe_ends=True).alt
    assert is_drawn(picture)
    with pytest.raises(InputError):
        sweep_curve({"none": {}}, quantity="λ")


def test_costs_are_drawn_over_decades() -> None:
    picture = cost_bubbles([MethodCost("a", 0.9, 0.01, 1e6), MethodCost("b", 0.95, 100.0, None)])
    assert "highest is b" in picture.alt
    assert ">100<" in picture.svg  # a plain number, not a formula
    assert "mathdefault" not in picture.svg
    assert is_drawn(cost_bubbles([MethodCost("a", 0.5, 0.0)]))
    with pytest.raises(InputError):
        cost_bubbles([MethodCost("a", 1.5, 1.0)])


def test_reversed_errors_are_counted_by_kind() -> None:
    #         right/right, wrong/right, right/wrong, same wrong, other wrong
    y = np.array([0, 0, 0, 0, 0, 0])
    first = np.array([0, 1, 1, 0, 2, 1])
    second = np.array([0, 0, 0, 3, 2, 2])
    picture = error_reversal(y, first, second, ("CLIP", "CMM"))
    assert picture.data["counts"].tolist() == [1, 2, 1, 1, 1]
    assert picture.data["reversed"] == pytest.approx(2 / 4)
    assert np.isnan(error_reversal(y, y, y, ("CLIP", "CMM")).data["reversed"])
    assert is_drawn(picture)
    with pytest.raises(InputError):
        error_reversal(y, first[:2], second, ("CLIP", "CMM"))


def test_classes_with_the_largest_differences_come_first() -> None:
    picture = per_class_comparison({"one": [0.5, 0.9, np.nan], "two": [0.6, 0.2, 0.4]}, ["a", "b", "c"], limit=5)
    assert picture.data["order"].tolist() == [1, 0]  # the third has no images under one of them
    assert is_drawn(picture)
    with pytest.raises(InputError):
        per_class_comparison({"one": [0.5]}, ["a", "b"])


def test_the_bars_of_base_and_new_classes_have_their_harmonic_mean() -> None:
    picture = base_new_bars({"ours": (Interval(0.8, 0.79, 0.81, 3), Interval(0.6, 0.5, 0.7, 1))})
    assert picture.data["harmonic mean"][0] == pytest.approx(2 * 0.8 * 0.6 / 1.4)
    assert ">68.6<" in picture.svg
    assert is_drawn(picture)


def test_densities_of_crop_weights_have_area_one(rng: np.random.Generator) -> None:
    picture = crop_weight_density({"softmax": rng.beta(2, 4, (30, 16)), "equal": np.full(8, 0.5)})
    step = np.diff(picture.data["grid"])[0]
    for name in ("softmax", "equal"):
        assert (picture.data[name] * step).sum() == pytest.approx(1, abs=0.05)
    assert is_drawn(picture)
