"""Unit rows, cosines and the k best: against scikit-learn and NumPy, by laws, and where they could fail."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from modalign.core.errors import InputError
from modalign.linalg import similarity
from modalign.linalg.similarity import cosine, groups_of_copies, near_identical, soft_assignments, top_k, unit


def test_unit_rows_have_length_one_and_zero_rows_stay_zero():
    X = torch.randn(20, 7)
    X[3] = 0
    lengths = unit(X).norm(dim=1)
    assert lengths[3] == 0
    assert torch.allclose(lengths[torch.arange(20) != 3], torch.ones(19))
    assert torch.allclose(unit(5 * X), unit(X))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    X = (300 * torch.randn(4, 512)).to(dtype)  # in float16 the squared length would overflow
    result = unit(X)
    assert result.dtype == torch.float32
    assert torch.equal(result, unit(X.float()))


def test_gradient_is_finite_at_a_zero_row():
    X = torch.randn(3, 5)
    X[1] = 0
    X.requires_grad_()
    unit(X).sum().backward()
    assert torch.isfinite(X.grad).all()


def test_cosine_equals_scikit_learn_and_is_symmetric():
    X, Y = torch.randn(9, 6), torch.randn(5, 6)
    assert np.allclose(cosine(X, Y), cosine_similarity(X, Y), atol=1e-6)
    assert torch.allclose(cosine(X, Y), cosine(Y, X).mT)
    assert cosine(X, Y.double()).dtype == torch.float64


def test_cosine_of_a_batch_is_the_cosine_of_its_members():
    X, Y = torch.randn(3, 9, 6), torch.randn(3, 5, 6)
    together = cosine(X, Y)
    for k in range(3):
        assert torch.allclose(together[k], cosine(X[k], Y[k]), atol=1e-6)


def test_cosine_refuses_rows_of_different_width():
    with pytest.raises(InputError, match="one width"):
        cosine(torch.ones(2, 3), torch.ones(2, 4))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_top_k_is_a_stable_sort_cut_off_even_with_many_ties(k):
    scores = torch.randint(0, 3, (200, 8)).float()
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :k]
    got = top_k(scores, k)
    assert np.array_equal(got.indices, expected)
    assert torch.equal(got.values, scores.gather(1, got.indices))


def test_top_k_of_a_batch_keeps_shape_infinities_and_gradient():
    scores = torch.randn(2, 3, 6)
    scores[0, 0, :4] = -torch.inf
    scores.requires_grad_()
    got = top_k(scores, 4)
    assert got.values.shape == got.indices.shape == (2, 3, 4)
    assert got.indices[0, 0, 2:].tolist() == [0, 1]
    got.values[1].sum().backward()
    assert scores.grad[1].sum() == 12


@pytest.mark.parametrize("k", [0, 5, -1])
def test_top_k_refuses_more_than_there_are(k):
    with pytest.raises(InputError, match="between 1 and the number of columns"):
        top_k(torch.randn(2, 4), k)


def test_top_k_refuses_nan():
    with pytest.raises(InputError, match="NaN"):
        top_k(torch.tensor([[1.0, float("nan"), 0.0]]), 1)


def test_near_identical_rows_are_the_pairs_of_a_loop(monkeypatch):
    X = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    X[7], X[31] = 5 * X[3], X[20] + 1e-3
    S = cosine(X, X)
    for threshold in (0.5, 0.999):
        expected = [[i, j] for i in range(40) for j in range(i + 1, 40) if S[i, j] >= threshold]
        assert near_identical(X, threshold=threshold).tolist() == expected
        whole = near_identical(X)
        monkeypatch.setattr(similarity, "CHUNK", 3 * 40)
        assert torch.equal(near_identical(X), whole)
    assert near_identical(torch.zeros(3, 4)).tolist() == []  # zero rows point nowhere


def test_near_identical_rows_are_found_in_64_megabytes():
    """No tensor of the search has more entries than 2²⁴ float32 cosines, of 4,500² pairs."""

    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.entries = max(self.entries, result.numel())
            return result

    with Largest() as largest:
        near_identical(torch.randn(4500, 2))
    assert 2**23 < largest.entries <= 2**24


def test_copies_of_copies_share_a_group():
    a, *others = torch.eye(4)
    b = others[0]
    chain = torch.stack([a, a + 0.04 * b, a + 0.08 * b])  # neighbors are near-identical, the ends are not
    groups = groups_of_copies(torch.cat([chain, torch.stack(others)]))
    assert len(near_identical(chain)) == 2
    assert len(groups[:3].unique()) == 1
    assert len(groups.unique()) == 4
    assert len(groups_of_copies(chain).unique()) == 3  # where there is nothing else, they are what is to be told apart


def test_vectors_that_hardly_differ_are_no_copies_of_each_other():
    X = 100 + torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    X[4] = X[9]
    assert len(near_identical(X)) > 200
    groups = groups_of_copies(X)
    assert len(groups.unique()) == 29
    assert groups[4] == groups[9]


def test_soft_assignments_are_the_softmax_without_denormal_numbers():
    scores = torch.tensor([[0.0, -85, -95, -105], [300, 290, 210, 0], [1, 1, 1, 1]])
    found = soft_assignments(scores)
    torch.testing.assert_close(found, scores.softmax(dim=1), atol=2e-35, rtol=1e-6)
    assert found.min() >= torch.finfo(torch.float32).tiny
    assert scores.softmax(dim=1).min() < torch.finfo(torch.float32).tiny
