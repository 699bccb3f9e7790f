"""Features and class text: rows stay together, files hold no pickle, encoders are distinguished."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
import torch

from modalign.core.errors import EncoderMismatchError, InputError
from modalign.core.features import UNLABELED, ClassText, EncoderSpec, Features, Quarantined, concatenate
from modalign.core.scored import Scored

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


def test_answers_follow_the_requested_ids() -> None:
    scored = Scored(("a", "c"), np.array([0, -1]), np.array([[0.1, 0.2, 0.0], [3.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(scored.answers(["c", "b", "a", "c"]), [0, UNLABELED, 1, 0])
    assert scored.answers([]).dtype == np.int64


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": np.array([0.0, 1.0])}, "labels to be integers.*got float64 such as 0.0"),
        ({"labels": np.array([np.nan, 1.0])}, "got float64 such as nan"),
        ({"labels": np.array(["cat", "dog"])}, "labels to be integers.*return_inverse"),
        ({"labels": np.array([True, False])}, "labels to be integers.*got bool"),
        ({"labels": np.array([0, None], dtype=object)}, "labels to be integers.*got object"),
        ({"labels": np.array([[0], [1]])}, r"as many labels as image vectors \(2\)"),
        ({"labels": [0, -2]}, "at least 0, or -1 where unknown, got -2"),
        ({"labels": [0, 2], "class_names": ("a", "b")}, "a class name for every label, got label 2 and 2 class names"),
        ({"class_names": "ab"}, "list of class names, got str 'ab'"),
        ({"class_names": ("a", "b", "a")}, "once, got 'a' twice"),
        ({"class_names": ("a", 3)}, "non-empty text, got 3"),
        ({"class_names": ("a", " ")}, "non-empty text, got ' '"),
        ({"vectors": np.ones((2, 3), complex)}, "real numbers, got complex128"),
        ({"vectors": np.zeros((2, 3), "datetime64[s]")}, "real numbers, got datetime64"),
        ({"vectors": [["a", "b"], ["c", "d"]]}, "real numbers, got <U1"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "rows of different lengths"),
        ({"vectors": np.ones((2, 3), bool)}, "real numbers, got bool"),
        ({"ids": "ab"}, "2 names of images, got one text 'ab'"),
        ({"ids": np.arange(2)}, "names of images, got int 0; labels are given as labels="),
        ({"ids": ["cat", "cat"]}, "got 'cat' for several; labels are given as labels="),
        ({"tokens": np.ones((2, 3))}, r"tokens of shape \(n, L, d\)"),
        ({"tokens": np.ones((3, 1, 3))}, "as many rows of tokens"),
    ],
)
def test_what_is_no_vector_label_or_name_is_refused(change: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Features(**{"vectors": np.ones((2, 3), np.float32)} | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_names": "ab"}, "list of class names"),
        ({"class_names": ("a", "a")}, "twice"),
        ({"vectors": np.full((2, 3), np.nan)}, "finite text vectors"),
        ({"vectors": np.ones((2, 3), complex)}, "real numbers"),
        ({"sentences": (("one",),)}, "sentences of 1 classes"),
    ],
)
def test_class_text_is_checked_when_it_is_made(change: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ClassText(**{"vectors": np.ones((2, 3), np.float32), "class_names": ("a", "b")} | change)


def test_a_file_keeps_finite_vectors_of_any_scale_and_refuses_others(tmp_path) -> None:
    far = np.random.default_rng(0).normal(size=(2, 5))
    for scale in (1e300, 1e-300):
        np.savez(tmp_path / "far.npz", vectors=far * scale)
        np.testing.assert_array_equal(Features.load(tmp_path / "far.npz").vectors, far * scale)
    for name in ("vectors", "tokens"):
        bad = {"vectors": far, "tokens": np.ones((2, 1, 5))}
        bad[name] = np.where(np.arange(bad[name].size).reshape(bad[name].shape) == 3, np.inf, bad[name])
        np.savez(tmp_path / "bad.npz", **bad)
        with pytest.raises(InputError, match=f"the array '{name}' holds NaN or infinity"):
            Features.load(tmp_path / "bad.npz")


def test_lists_and_tensors_are_taken_for_arrays() -> None:
    features = Features(
        torch.ones(2, 3), labels=torch.tensor([1, -1]), ids=np.array(["x", "y"]), class_names=["a", "b"]
    )
    assert isinstance(features.vectors, np.ndarray)
    assert (features.labels.tolist(), features.labels.dtype, features.ids) == ([1, -1], np.int64, ("x", "y"))
    assert Features([[1, 2], [3, 4]]).vectors.shape == (2, 2)


def test_class_text_is_selected_by_name() -> None:
    text = ClassText(np.eye(3, 4), ("a", "b", "c"), (("a.",), ("b.", "B."), ("c.",)))
    chosen = text.select(["c", "b"])
    np.testing.assert_array_equal(chosen.vectors, np.eye(3, 4)[[2, 1]])
    assert (chosen.class_names, chosen.sentences) == (("c", "b"), (("c.",), ("b.", "B.")))
    assert text.select(text.class_names) is text
    with pytest.raises(InputError, match=r"text for all 1 classes, got none for 'bb'\. Did you mean 'b'\?"):
        text.select(["bb"])


def test_a_repr_is_short_and_lists_the_content() -> None:
    features = some(300)
    assert repr(features) == "Features(300 images, width 3, 2 classes, 2 tokens each, encoder 'tiny', 1 quarantined)"
    many = Features(np.ones((2, 3)), labels=[0, -1], class_names=[f"<b>{i}" for i in range(1000)])
    assert repr(many) == "Features(2 images, width 3, 1000 classes, 1 unlabeled)"
    page = many._repr_html_()
    assert "&lt;b&gt;0</td><td>1</td>" in page
    assert "… 980 more" in page
    assert len(page) < 2000
    assert Features(np.ones((2, 3)))._repr_html_() == "<p>Features: 2 images, width 3, 0 classes, 2 unlabeled</p>"
    assert repr(ClassText(np.ones((2, 5, 3)), ("a", "b"), spec=SPEC)) == (
        "ClassText(2 classes, up to 5 sentences each, width 3, encoder 'tiny')"
    )


def test_a_file_of_complex_vectors_is_refused_before_it_is_converted(tmp_path) -> None:
    np.savez(tmp_path / "c.npz", vectors=np.ones((2, 3)) * 1j)
    with pytest.raises(InputError, match="complex128"):
        Features.load(tmp_path / "c.npz")
