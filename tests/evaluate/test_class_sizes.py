"""Class sizes without labels: their report, and the Bayes factor against its sequential form."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalign.evaluate.class_sizes import estimated_sizes, evidence, size_lines, with_class_sizes
from modalign.evaluate.outcome import no_outcome, outcome_lines
from modalign.methods.contract.transduction import keep_answers

NAMES = ("cat", "dog", "owl")


def sized(assigned: list[int], estimated: list[float] | None = None) -> dict:
    sizes = None if estimated is None else np.array(estimated)
    return with_class_sizes(no_outcome(NAMES), np.array(assigned), NAMES, sizes)


def test_assigned_images_are_counted_and_rare_classes_noted() -> None:
    found = sized([0] * 30 + [1] * 29 + [2])
    assert found["class_sizes"] == {"cat": 30, "dog": 29, "owl": 1}
    assert "1 class has almost no image: 'owl' (1)" in found["notes"][0]
    even = sized([0, 1, 2, 2, -1])
    assert even["class_sizes"] == {"cat": 1, "dog": 1, "owl": 2}
    assert not even["notes"]
    assert outcome_lines(sized([0, 1, 1]))[1] == "images assigned to each class: cat 1, dog 2, owl 0"


def test_estimates_absent_classes_and_evidence_are_reported() -> None:
    lines = size_lines(sized([0, 1, 1, 1], [1.2, 2.6, 0.2]))
    assert lines[:2] == [
        "estimated images of each class: cat 1, dog 3, owl 0",
        "classes that seem to have no image: 'owl'",
    ]
    assert size_lines(no_outcome(NAMES)) == []
    assert size_lines(sized([0] * 50, [50.0, 0.0, 0.0]))[-1] == "class sizes differ"
    equal = size_lines(sized([0, 1, 2] * 20, [20.0, 20.0, 20.0]))
    assert len(equal) == 2
    assert equal[-1] == "class sizes may be equal"


@given(st.lists(st.integers(0, 12), min_size=2, max_size=6).filter(any))
def test_evidence_is_that_of_predicting_one_image_after_the_other(sizes: list[int]) -> None:
    """By the rule of succession: an image is of class k with probability (n_k + 1) / (n + C)."""
    total, seen, C = 0.0, [0] * len(sizes), len(sizes)
    for k in np.repeat(np.arange(C), sizes):
        total += math.log((seen[k] + 1) / (sum(seen) + C)) - math.log(1 / C)
        seen[k] += 1
    assert evidence(np.array(sizes)) == pytest.approx(total / sum(sizes), abs=1e-9)


def test_few_images_of_many_classes_have_wide_intervals() -> None:
    sizes = np.zeros(68)
    sizes[:25] = 1
    assert abs(evidence(sizes)) < 0.2


def test_sizes_come_from_the_method_or_from_its_answers() -> None:
    P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    answers = keep_answers(torch.eye(2), P)
    np.testing.assert_allclose(estimated_sizes(SimpleNamespace(fitted_answers_=answers), 3), P.sum(dim=0), atol=1e-6)
    own = SimpleNamespace(fitted_answers_=answers, class_sizes_=torch.tensor([3.0, 1.0, 0.0]))
    assert estimated_sizes(own, 3).tolist() == [3, 1, 0]
    assert estimated_sizes(SimpleNamespace(), 3) is None
