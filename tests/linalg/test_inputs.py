"""What the linear algebra takes as labels: whole numbers of the classes there are."""

from __future__ import annotations

import pytest
import torch

from modalign.core.errors import InputError
from modalign.linalg.inputs import class_indices, power_of_two


def test_labels_are_those_of_the_classes_and_no_others() -> None:
    assert class_indices(torch.tensor([0, 2], dtype=torch.int32), 2, 3).tolist() == [0, 2]
    assert class_indices(torch.tensor([-1, 2]), 2, 3, lowest=-1).tolist() == [-1, 2]
    for wrong in ([0, 3], [-1, 2]):
        with pytest.raises(InputError, match=r"labels in 0…2"):
            class_indices(torch.tensor(wrong), 2, 3)
    with pytest.raises(InputError, match="2 integer labels"):
        class_indices(torch.tensor([0.0, 1.0]), 2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_power_of_two_beside_a_row_reaches_to_both_ends_of_the_type(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    rows = torch.tensor([[limits.max, 0.0], [limits.tiny, 0.0], [-3.0, 1.0], [0.0, 0.0]], dtype=dtype)
    found = power_of_two(rows)
    assert found.shape == (4, 1)
    scaled = (rows / found).abs().amax(dim=1)
    assert ((scaled[:3] >= 1) & (scaled[:3] < 2)).all()
    assert found[:, 0].tolist()[2:] == [2.0, 1.0]
    assert torch.equal(rows / found * found, rows)  # exact
