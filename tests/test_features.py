"""Features and class text: rows stay together, files hold no pickle, encoders are told apart."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest

from modalign.errors import EncoderMismatchError, InputError
from modalign.features import UNLABELLED, ClassText, EncoderSpec, Features, Quarantined, Scored, concatenate

SPEC = EncoderSpec("tiny", "a" * 64, 3, logit_scale=100.0)


def some(n: int = 4) -> Features:
    rng = np.random.default_rng(n)
    return Features(
        rng.normal(size=(n, 3)).astype(np.float32),
        ids=tuple(f"é/{i}.png" for i in range(n)),
        labels=np.arange(n) % 2,
        class_names=("a", "b"),
        tokens=rng.normal(size=(n, 2, 3)).astype(np.float32),
        spec=SPEC,
        quarantined=(Quarantined("bad.jpg", "empty file"),),
    )


def test_a_file_brings_everything_back(tmp_path) -> None:
    features = some()
    again = Features.load(features.save(tmp_path / "f.npz"))
    np.testing.assert_array_equal(again.vectors, features.vectors)
    np.testing.assert_array_equal(again.labels, features.labels)
    np.testing.assert_array_equal(again.tokens, features.tokens)
    assert (again.ids, again.class_names, again.spec) == (features.ids, features.class_names, SPEC)
    assert again.quarantined == features.quarantined
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_a_foreign_file_with_vectors_is_enough(tmp_path) -> None:
    np.savez(tmp_path / "mine.npz", vectors=np.ones((2, 5)))
    features = Features.load(tmp_path / "mine.npz")
    assert features.vectors.dtype == np.float32
    assert features.labels.tolist() == [-1, -1]
    assert features.spec is None


def test_pickled_arrays_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "evil.npz", vectors=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(InputError, match="features file"):
        Features.load(tmp_path / "evil.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_other_files_are_refused(tmp_path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="features file"):
        Features.load(tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"ending in \.npz"):
        some().save(tmp_path / "x.pkl")


ENTRY = {"name": "e", "fingerprint": "f" * 64, "dim": 4, "dtype": "float32", "logit_scale": 10.0}


@pytest.mark.parametrize(
    "card",
    [
        "{",
        [],
        {"spec": []},
        {"spec": {"name": "e"}},
        {"spec": ENTRY | {"dim": 0}},
        {"spec": ENTRY | {"logit_scale": -1}},
        {"spec": ENTRY | {"execute": "rm"}},
        {"quarantined": 3},
        {"quarantined": [3]},
        {"quarantined": [{"id": "a"}]},
        {"quarantined": [{"id": "a", "reason": None}]},
    ],
)
def test_a_card_that_is_none_is_refused(card: object, tmp_path) -> None:
    text = card if isinstance(card, str) else json.dumps(card)
    np.savez(tmp_path / "f.npz", vectors=np.eye(3, 4, dtype=np.float32), card=np.array(text))
    with pytest.raises(InputError):
        Features.load(tmp_path / "f.npz")


@pytest.mark.parametrize("parts", [["train"], ["train"] * 3 + ["x"], [["train"]] * 3, "train", ["train", "x", ""]])
def test_parts_that_are_none_are_refused_or_left_out(parts: object, tmp_path) -> None:
    np.savez(tmp_path / "f.npz", vectors=np.eye(3, 4, dtype=np.float32), parts=np.array(parts))
    with suppress(InputError):
        assert Features.load(tmp_path / "f.npz").parts == ()


def test_rows_stay_together() -> None:
    features = some(5)
    chosen = features.select(np.array([3, 1]))
    assert chosen.ids == (features.ids[3], features.ids[1])
    np.testing.assert_array_equal(chosen.labels, features.labels[[3, 1]])
    np.testing.assert_array_equal(chosen.tokens, features.tokens[[3, 1]])
    both = concatenate([features.select([0, 1]), features.select([2, 3, 4])])
    np.testing.assert_array_equal(both.vectors, features.vectors)
    assert both.ids == features.ids
    assert both.quarantined == features.quarantined


def test_vectors_of_two_encoders_do_not_mix() -> None:
    other = Features(np.ones((1, 3), np.float32), class_names=("a", "b"), spec=EncoderSpec("x", "b" * 64, 3))
    with pytest.raises(EncoderMismatchError, match="Expected features of encoder 'tiny'"):
        concatenate([some(), other])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"ids": ("a",)}, "as many ids"), ({"labels": np.zeros(3, int)}, "as many labels")],
)
def test_parts_of_different_length_are_refused(change: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Features(np.ones((2, 3), np.float32), **change)


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"shape \(n, d\)"):
        Features(np.ones(3, np.float32))
    with pytest.raises(InputError, match="C = 3"):
        ClassText(np.ones((2, 4), np.float32), ("a", "b", "c"))


def test_answers_follow_the_ids_that_are_asked_for() -> None:
    scored = Scored(("a", "c"), np.array([0, -1]), np.array([[0.1, 0.2, 0.0], [3.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(scored.answers(["c", "b", "a", "c"]), [0, UNLABELLED, 1, 0])
    assert scored.answers([]).dtype == np.int64
