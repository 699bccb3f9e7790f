"""The conformal guarantee holds on images of known classes; other images are rejected more often than by chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.linalg.rejection import Rejection, confidence_score, fit_rejection, images_needed

CLASSES = 8


def scores(n: int, seed: int, *, strange: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of images near one of the class centres, or near none of them."""
    g = torch.Generator().manual_seed(seed)
    centers = torch.linalg.qr(torch.randn(32, CLASSES, generator=torch.Generator().manual_seed(99)))[0].T
    y = torch.randint(CLASSES, (n,), generator=g)
    images = torch.randn(n, 32, generator=g) / 8 + (0 if strange else centers[y])
    return 10 * images @ centers.T, y


@pytest.mark.parametrize("level", [0.05, 0.1, 0.3])
def test_known_images_are_refused_no_more_often_than_promised(level: float) -> None:
    """Averaged over many draws of the reference, since the promise is on average over it."""
    shares = []
    for seed in range(200):
        rejection = fit_rejection(*scores(39, seed))
        shares.append(float(rejection.rejects(scores(50, 1000 + seed)[0], level).double().mean()))
    error = 3 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) <= level + error
    assert np.mean(shares) >= level - 0.03 - error  # and not simply never


@given(st.floats(1e-4, 0.9999) | st.integers(2, 5000).map(lambda n: 1 / n))
def test_as_many_held_out_images_as_are_needed_are_enough(level: float) -> None:
    needed = images_needed(level)
    Rejection("margin", (0.0,) * needed).require(level)
    if needed > 1:
        with pytest.raises(InputError, match=f"at least {needed} held-out") as caught:
            Rejection("margin", (0.0,) * (needed - 1)).require(level)
        allowed = float(str(caught.value).split("allow ")[1].split()[0])  # what the message advises works
        Rejection("margin", (0.0,) * (needed - 1)).require(allowed)


def test_untrusted_hosts_are_refused() -> None:
    rejection = fit_rejection(*scores(400, 0))
    strangers = rejection.rejects(scores(400, 1, strange=True)[0])
    assert strangers.double().mean() > 0.9
    assert rejection.separation > 0.95
    assert rejection.caught > 0.7


def test_p_values_are_counts_over_the_reference() -> None:
    rejection = Rejection("margin", (1.0, 2.0, 2.0, 5.0))
    logits = torch.tensor([[0.5, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 9.0]])
    assert rejection.p_values(logits).tolist() == [1 / 5, 4 / 5, 4 / 5, 1.0]


def test_confidence_by_its_definitions() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [-1.0, -1.0, -4.0]])
    expected = {
        "score": logits.max(dim=1).values,
        "margin": torch.tensor([2.0, 0.0]),
        "probability": (logits.exp() / logits.exp().sum(dim=1, keepdim=True)).max(dim=1).values,
    }
    for kind, value in expected.items():
        torch.testing.assert_close(confidence_score(logits, kind), value)
    torch.testing.assert_close(confidence_score(logits + 7, "margin"), confidence_score(logits, "margin"))


def test_the_kind_that_separates_left_out_classes_is_chosen() -> None:
    """Where every image has the same margins, only the size of its scores separates known from unknown classes."""
    y = torch.arange(60) % 3
    logits = torch.full((60, 3), -5.0)
    logits[torch.arange(60), y] = 5.0
    logits[y == 0, 1] = 4.0  # class 0 left out looks like class 1, by a margin as wide as a known one's
    kinds = {fit_rejection(logits, y, kinds=[kind]).separation for kind in ("probability", "margin", "score")}
    assert fit_rejection(logits, y).separation == max(kinds)


def test_without_labels_or_with_two_classes_nothing_is_left_out() -> None:
    logits, y = scores(50, 0)
    assert fit_rejection(logits).separation is None
    two = fit_rejection(logits[:, :2], y.clamp(max=1))
    assert (two.separation, two.kind, len(two.reference)) == (None, "probability", 50)


def test_errors_have_instructions() -> None:
    logits, y = scores(10, 0)
    with pytest.raises(InputError, match="at least 19 held-out images"):
        fit_rejection(logits, y).rejects(logits)
    assert fit_rejection(logits, y).rejects(logits, 0.1).sum() >= 0
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_rejection(logits, y).rejects(logits, 1.5)
    with pytest.raises(InputError, match="at least one held-out"):
        fit_rejection(logits[:0])
    with pytest.raises(InputError, match="at least 2 classes"):
        confidence_score(logits[:, :1])


@pytest.mark.parametrize(("level", "n"), [(0.05, 19), (0.1, 9), (0.5, 1), (1 / 3, 2), (0.3, 3), (0.01, 99)])
def test_the_number_of_images_needed_is_the_smallest(level: float, n: int) -> None:
    assert images_needed(level) == n
    few = Rejection("score", tuple(float(i) for i in range(n - 1)))
    with pytest.raises(InputError, match=f"at least {n} held-out"):
        few.require(level)
    Rejection("score", tuple(float(i) for i in range(n))).require(level)
