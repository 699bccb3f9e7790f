"""No method gets a test label, and every use of them is counted."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from modalign.core.errors import InputError
from modalign.core.features import ClassText, Features
from modalign.data.splits.drawing import draw_split, few_shot
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.measuring import fingerprint_of
from modalign.evaluate.protocol import Method, budgets, require_clip_features, run_once
from modalign.evaluate.runs import Run, Shots
from modalign.evaluate.sealed import SealedLabels

NAMES = ("cat", "dog", "owl")
N = 120
TEXT = ClassText(np.eye(3, 5, dtype=np.float32), NAMES)


def toy(labels: np.ndarray | None = None) -> Features:
    """Images whose first number is their row, so that each can be identified."""
    labels = np.random.default_rng(0).integers(0, 3, N) if labels is None else labels
    vectors = np.zeros((N, 5), dtype=np.float32)
    vectors[:, 0] = np.arange(N)
    vectors[np.arange(N), 1 + labels] = 1
    return Features(vectors, ids=tuple(f"{NAMES[y]}/{i}.jpg" for i, y in enumerate(labels)), labels=labels,
                    class_names=NAMES)  # fmt: skip


class Spy:
    """Learns class means and records its inputs."""

    mirrors = True

    def __init__(self, needs_labels: bool = True) -> None:
        self.needs_labels = needs_labels
        self.seen: dict[str, Any] = {}

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {"strength": np.float32(0.5)}

    def fit(self, X: Features, *, text: ClassText | None, validation: Features | None) -> Spy:
        self.seen |= {"train": X, "text": text, "validation": validation}
        self.diagnosis_ = {"entropy": np.float64(0.25)}
        return self

    def predict(self, X: Features) -> np.ndarray:
        self.seen["test"] = X
        return X.vectors[:, 1:4].argmax(axis=1)


def rows_of(features: Features) -> list[int]:
    return features.vectors[:, 0].astype(int).tolist()


# -- sealed labels ----------------------------------------------------------------------------------------------------


def test_sealed_labels_mark_and_count() -> None:
    sealed = SealedLabels([2, 0, 1, 1])
    assert len(sealed) == 4
    assert sealed.score([2, 0, 0, 0]).top1 == 0.5
    assert sealed.mark([2, 0, 1, 0]).tolist() == [True, True, True, False]
    assert sealed.asked == 2


def test_sealed_labels_cannot_be_read_in_the_obvious_ways() -> None:
    secret = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    sealed = SealedLabels(secret)
    assert repr(sealed) == str(sealed) == "SealedLabels(n=8, asked=0)"
    for attempt in (
        lambda: vars(sealed),
        lambda: list(sealed),
        lambda: sealed[0],
        lambda: pickle.dumps(sealed),
        lambda: copy.copy(sealed),
        lambda: copy.deepcopy(sealed),
        lambda: json.dumps(sealed),
    ):
        with pytest.raises(TypeError):
            attempt()
    assert np.asarray(sealed).dtype == object
    for name in dir(sealed):
        value = getattr(sealed, name)
        assert not (isinstance(value, (np.ndarray, list, tuple)) and len(value) == len(secret)), name
    with pytest.raises(AttributeError):
        sealed.asked = 0
    with pytest.raises(AttributeError):
        sealed.labels = secret


def test_sealed_labels_are_a_copy_of_their_own() -> None:
    labels = np.array([0, 1])
    sealed = SealedLabels(labels)
    labels[:] = 1
    assert sealed.score([0, 1]).top1 == 1


def test_predictions_cannot_listen_in_on_the_comparison() -> None:
    heard = []

    class Eavesdropper:
        def __eq__(self, other: object) -> bool:
            heard.append(other)
            return True

        __hash__ = None  # type: ignore[assignment]

    sealed = SealedLabels([0, 1])
    with pytest.raises(InputError, match="numbers or strings"):
        sealed.score([Eavesdropper(), Eavesdropper()])
    assert heard == []
    assert sealed.asked == 0


def test_sealed_labels_need_labels_and_as_many_predictions() -> None:
    for wrong in ([], [0, -1], [[0], [1]]):
        with pytest.raises(InputError, match="label for every test image"):
            SealedLabels(wrong)
    with pytest.raises(InputError, match="2 predictions"):
        SealedLabels([0, 1]).score([0])


def few_shot_runs(
    features: Features,
    text: ClassText | None,
    methods: Mapping[str, Callable[[int], Method]],
    *,
    shots: Sequence[Shots] = (1, 4, 16),
    seeds: Sequence[int] = (1, 2, 3),
    official: Split | None = None,
    test: float | None = None,
    clip_features: Features | None = None,
) -> list[Run]:
    """Every method at every number of labels that it can use, as in a comparison."""
    return [
        run_once(
            name, make(seed), features, text, few_shot(features.labels, k, seed, official=official, test=test), seed,
            shots=k, clip_features=clip_features,
        )
        for name, make in methods.items() for k in budgets(make(seeds[0]), shots, text) for seed in seeds
    ]  # fmt: skip


# -- the protocol -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("shots", [1, 4])
def test_a_method_gets_train_and_validation_with_labels_and_test_without(shots: int, official: bool) -> None:
    features, spy = toy(), Spy()
    lists = draw_split(features.labels) if official else None
    text = ClassText(np.eye(3, 5, dtype=np.float32), NAMES)
    few_shot_runs(features, text, {"spy": lambda seed: spy}, shots=(shots,), seeds=(2,), official=lists)
    split = few_shot(features.labels, shots, 2, official=lists)
    seen = spy.seen
    assert rows_of(seen["train"]) == split.train.tolist()
    assert rows_of(seen["validation"]) == split.validation.tolist()
    assert rows_of(seen["test"]) == split.test.tolist()
    assert seen["text"] is text
    np.testing.assert_array_equal(seen["train"].labels, features.labels[split.train])
    assert not set(rows_of(seen["train"])) & set(rows_of(seen["test"]))
    assert not set(rows_of(seen["validation"])) & set(rows_of(seen["test"]))


def test_no_data_about_a_test_image_reveals_its_class() -> None:
    features, spy = toy(), Spy()
    few_shot_runs(features, None, {"spy": lambda seed: spy}, shots=(1,), seeds=(1,))
    test = spy.seen["test"]
    assert (test.labels == -1).all()
    assert not any(name in identifier for identifier in test.ids for name in NAMES)
    assert test.vectors.base is None  # not a window into all vectors
    assert test.class_names == NAMES


def test_methods_without_labels_get_the_pool_blind_and_run_once_a_seed() -> None:
    features, spy = toy(), Spy(needs_labels=False)
    lists = draw_split(features.labels)
    runs = few_shot_runs(features, TEXT, {"spy": lambda seed: spy}, shots=(1, 4), seeds=(1, 2), official=lists)
    assert [(r.shots, r.seed) for r in runs] == [(0, 1), (0, 2)]
    train = spy.seen["train"]
    assert sorted(rows_of(train)) == lists.train.tolist()
    assert (train.labels == -1).all()
    assert not any(name in identifier for identifier in train.ids for name in NAMES)
    assert spy.seen["validation"] is None
    assert "transductive" not in runs[0].protocol


def test_without_a_pool_the_record_has_transductive() -> None:
    spy = Spy(needs_labels=False)
    (run,) = few_shot_runs(toy(), TEXT, {"spy": lambda seed: spy}, seeds=(1,))
    assert run.protocol.endswith("transductive")
    assert rows_of(spy.seen["train"]) == rows_of(spy.seen["test"]) == list(range(N))
    assert (spy.seen["train"].labels == -1).all()


@pytest.mark.parametrize("official", [False, True])
def test_methods_with_optional_labels_run_at_every_budget_with_the_rest_unlabeled(official: bool) -> None:
    features, lists = toy(), draw_split(toy().labels) if official else None
    spies: list[Spy] = []

    def build(seed: int) -> Spy:
        spies.append(Spy(needs_labels=False))
        spies[-1].takes_labels = True  # type: ignore[attr-defined]
        return spies[-1]

    test = None if official else 0.5
    runs = few_shot_runs(features, TEXT, {"spy": build}, shots=(1, 4, "all"), seeds=(1,), official=lists, test=test)
    assert [run.shots for run in runs] == [0, 1, 4, "all"]
    for run, spy in zip(runs[1:], spies[-3:], strict=True):
        split = few_shot(features.labels, run.shots, 1, official=lists, test=test)
        train, labeled = spy.seen["train"], split.train
        assert rows_of(train) == [*labeled.tolist(), *split.unlabeled.tolist()]
        np.testing.assert_array_equal(train.labels[: len(labeled)], features.labels[labeled])
        assert (train.labels[len(labeled) :] == -1).all()
        assert not set(rows_of(train)) & set(rows_of(spy.seen["test"]))
        assert (run.n_train, run.n_unlabeled) == (len(labeled), len(split.unlabeled))
        if len(split.unlabeled):
            assert run.protocol.endswith(f"with {len(split.unlabeled)} unlabeled images")
            assert not any(name in identifier for identifier in train.ids for name in NAMES)
    assert len(split.unlabeled) == 0  # at "all", training and validation use up the pool


def test_unlabeled_images_that_a_method_ignores_are_not_counted() -> None:
    spy = Spy(needs_labels=False)
    spy.takes_labels, spy.takes_unlabeled = True, False  # type: ignore[attr-defined]
    blind, few = few_shot_runs(toy(), TEXT, {"spy": lambda seed: spy}, shots=(0, 4), seeds=(1,), test=0.5)
    assert (blind.n_train, blind.n_unlabeled) == (0, len(few_shot(toy().labels, 0, 1, test=0.5).unlabeled))
    assert (few.n_train, few.n_unlabeled) == (12, 0)
    assert "unlabeled" not in few.protocol


def test_without_text_nothing_can_do_without_labels() -> None:
    runs = few_shot_runs(toy(), None, {"spy": lambda seed: Spy(needs_labels=False)}, shots=(0, 2), seeds=(1,))
    assert [run.shots for run in runs] == [2]


class Anchored(Spy):
    takes_clip_features = True

    def fit(self, X: Features, *, text: ClassText | None, validation: Features | None, clip_features: Features) -> Spy:
        self.seen["clip_features"] = clip_features
        return super().fit(X, text=text, validation=validation)


@pytest.mark.parametrize("shots", [0, 4])
def test_an_anchor_goes_to_methods_that_take_one_and_replaces_the_images_of_all_others(shots: int) -> None:
    features = toy()
    anchor = Features(features.vectors + np.float32([1000, 0, 0, 0, 0]), ids=features.ids)
    takes, plain = Anchored(needs_labels=shots > 0), Spy(needs_labels=shots > 0)
    methods = {"takes": lambda seed: takes, "plain": lambda seed: plain}
    runs = few_shot_runs(features, TEXT, methods, shots=(shots,), seeds=(1,), clip_features=anchor, test=0.5)
    seen = takes.seen["train"]
    assert [row - 1000 for row in rows_of(takes.seen["clip_features"])] == rows_of(seen)  # the same images, row by row
    assert max(rows_of(takes.seen["test"])) < 1000
    assert (takes.seen["clip_features"].labels == -1).all()
    for part in ("train", "test"):
        assert [row - 1000 for row in rows_of(plain.seen[part])] == rows_of(takes.seen[part])
        np.testing.assert_array_equal(plain.seen[part].labels, takes.seen[part].labels)
    assert runs[0].features == runs[1].features == fingerprint_of(features, TEXT, anchor)
    assert runs[0].features != fingerprint_of(features, TEXT)
    np.testing.assert_array_equal(runs[0].correct, runs[1].correct)


def test_a_fixed_test_share_is_the_same_for_all_shots_and_seeds() -> None:
    runs = few_shot_runs(toy(), None, {"spy": lambda seed: Spy()}, shots=(1, 4), seeds=(1, 2), test=0.5)
    assert len({run.test for run in runs}) == 1
    assert len({len(run.correct) for run in runs}) == 1
    loose = few_shot_runs(toy(), None, {"spy": lambda seed: Spy()}, shots=(1, 4), seeds=(1, 2))
    assert len({run.test for run in loose}) == 4


def test_runs_record_what_happened() -> None:
    wrong = toy().labels.copy()
    features = toy()
    wrong[:30] = (wrong[:30] + 1) % 3  # the vectors of 30 images now point at another class
    features = Features(features.vectors, labels=wrong, class_names=NAMES)
    runs = few_shot_runs(features, None, {"spy": lambda seed: Spy()}, shots=(1,), seeds=(1, 2))
    for run in runs:
        split = few_shot(wrong, 1, run.seed)
        assert run.correct.tolist() == (split.test >= 30).tolist()
        assert run.accuracy.top1 == pytest.approx((split.test >= 30).mean())
        assert (run.n_train, run.n_validation, run.asked) == (3, 3, 1)
        assert run.parameters == {"strength": 0.5}
        assert run.diagnosis == {"entropy": 0.25}
        assert run.versions["modalign"]
        assert run.features == fingerprint_of(features)


def test_fingerprint_covers_vectors_labels_and_text() -> None:
    features, text = toy(), ClassText(np.eye(3, 5, dtype=np.float32), NAMES)
    other = toy(np.zeros(N, dtype=np.int64))
    moved = Features(features.vectors * 2, features.ids, features.labels, NAMES)
    prints = {fingerprint_of(features), fingerprint_of(other), fingerprint_of(moved), fingerprint_of(features, text)}
    assert len(prints) == 4
    assert fingerprint_of(toy()) == fingerprint_of(features)


def test_one_run_can_use_a_split_of_ones_own() -> None:
    split = Split(np.arange(10), np.arange(10, 20), np.arange(60, 120), description="mine")
    run = run_once("spy", Spy(), toy(), None, split, 0, shots=16)
    assert (run.n_train, run.n_validation, run.accuracy.n, run.protocol) == (10, 10, 60, "mine")


@pytest.mark.parametrize(
    ("clip_features", "words"),
    [
        (Features(np.ones((4, 5), dtype=np.float32)), r"same images in the same order .* got 4 rows"),
        (Features(toy().vectors), "with other ids"),
        (Features(toy().vectors[:, :4], toy().ids), "space of the text"),
    ],
)
def test_clip_features_of_other_images_or_another_space_are_refused(clip_features: Features, words: str) -> None:
    with pytest.raises(InputError, match=words):
        require_clip_features(toy(), clip_features, TEXT)


def test_features_with_parts_are_compared_by_their_parts():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    parts = np.repeat(["test", "train", "validation"], 20).tolist()
    marked = Features(rng.normal(size=(60, 8)) + 4 * y[:, None], labels=y, class_names=["a", "b"], parts=parts)
    text = ClassText(np.stack([-np.ones(8), np.ones(8)]), ["a", "b"])
    result = compare(marked, text=text, methods=["gda", "zero_shot"], shots=[0, 2], seeds=1, ablations=False, jobs=1)
    assert {run.accuracy.n for run in result.runs} == {20}
    assert {run.method for run in result.runs} == {"gda", "zero_shot"}
