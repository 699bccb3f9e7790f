"""Class prototypes: against plain loops, by laws, and where they could fail."""

import pytest
import torch

from modalign.core.errors import InputError
from modalign.linalg.prototypes import class_means, text_prototypes
from modalign.linalg.similarity import unit


def test_text_prototype_is_the_direction_of_the_mean_sentence():
    text = unit(torch.randn(4, 3, 8))
    expected = torch.stack([sum(sentences) / 3 for sentences in text])
    expected = torch.stack([row / row.norm() for row in expected])
    assert torch.allclose(text_prototypes(text), expected, atol=1e-6)


def test_absent_sentences_order_and_length_of_sentences_do_not_matter():
    text = torch.randn(4, 3, 8)
    prototypes = text_prototypes(text)
    padded = torch.cat([text, torch.zeros(4, 2, 8)], dim=1)
    assert torch.allclose(text_prototypes(padded), prototypes, atol=1e-6)
    assert torch.allclose(text_prototypes(text[:, [2, 0, 1]]), prototypes, atol=1e-6)
    assert torch.allclose(text_prototypes(text * torch.rand(4, 3, 1).add(0.1)), prototypes, atol=1e-5)


def test_one_sentence_a_class_may_come_without_its_dimension():
    text = torch.randn(5, 8)
    assert torch.equal(text_prototypes(text), text_prototypes(text[:, None]))


def test_a_class_without_a_sentence_is_named():
    text = torch.randn(4, 3, 8)
    text[2] = 0
    with pytest.raises(InputError, match=r"none for class 2"):
        text_prototypes(text)


def test_class_means_are_directions_of_means_of_directions():
    X, y = torch.randn(30, 6), torch.arange(30) % 4
    got = class_means(X, y, 4)
    for c in range(4):
        mean = sum(x / x.norm() for x in X[y == c])
        assert torch.allclose(got[c], mean / mean.norm(), atol=1e-6)
    order = torch.randperm(30)
    assert torch.allclose(class_means(X[order], y[order], 4), got, atol=1e-6)


def test_unlabeled_rows_are_left_out():
    X, y = torch.randn(10, 6), torch.tensor([0, 1, -1, 0, 1, -1, 0, 1, -1, -1])
    assert torch.allclose(class_means(X, y, 2), class_means(X[y >= 0], y[y >= 0], 2))


def test_classes_without_an_image_are_named():
    with pytest.raises(InputError, match=r"none for 2 classes: 1, 3"):
        class_means(torch.randn(3, 4), torch.tensor([0, 2, -1]), 4)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 5]), "labels in"),
        (torch.tensor([0, 1]), "integer labels"),
        (torch.tensor([0.0, 1, 1]), "integer labels"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(InputError, match=message):
        class_means(torch.randn(3, 4), y, 2)


def test_half_precision_comes_back_as_float32():
    X, y = torch.randn(8, 4), torch.arange(8) % 2
    assert torch.equal(class_means(X.bfloat16(), y, 2), class_means(X.bfloat16().float(), y, 2))
    assert text_prototypes(X.half()).dtype == torch.float32
