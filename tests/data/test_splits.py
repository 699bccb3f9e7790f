"""Splits: disjoint, of the promised size, drawn as the literature draws them, and the same again tomorrow."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.items import Items, load_items
from modalign.data.splits.drawing import Split, draw_split, few_shot, read_coop_split
from modalign.data.splits.protocols import base_to_new, long_tail, relabel, unlabeled

SPLITS = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "splits"
LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(lambda y: np.array(y, dtype=np.int64))
SEEDS = st.integers(0, 5)
PARTS = ("train", "validation", "test")


def counts(y: np.ndarray, indices: np.ndarray) -> dict[int, int]:
    return {int(k): int((y[indices] == k).sum()) for k in np.unique(y[y != UNLABELED])}


def check(split: Split, y: np.ndarray) -> None:
    drawn = np.concatenate([getattr(split, part) for part in PARTS])
    assert len(set(drawn.tolist())) == len(drawn), "train, validation and test share an image"
    assert all(0 <= i < len(y) for i in drawn)
    assert (y[drawn] != UNLABELED).all()
    assert not set(split.unlabeled.tolist()) & set(split.test.tolist())


def equal(a: Split, b: Split) -> bool:
    return all((getattr(a, part) == getattr(b, part)).all() for part in (*PARTS, "unlabeled"))


def dassl(train: list[tuple[str, int]], val: list[tuple[str, int]], shots: int, seed: int) -> tuple[list, list]:
    """CoOp's few-shot lists, written down from the description of its procedure."""
    random.seed(seed)
    result = []
    for source, number in ((train, shots), (val, min(shots, 4))):
        by_label = defaultdict(list)
        for item in source:
            by_label[item[1]].append(item)
        drawn = []
        for items in by_label.values():
            drawn.extend(random.sample(items, number) if len(items) >= number else items)
        result.append(drawn)
    return result[0], result[1]


@given(LABELS, LABELS, st.integers(1, 6), SEEDS)
def test_with_official_lists_the_draw_is_dassls(a: np.ndarray, b: np.ndarray, shots: int, seed: int) -> None:
    y = np.abs(np.concatenate([a, b]))
    official = Split(np.arange(len(a)), np.arange(len(a), len(y)))
    items = [(str(i), int(label)) for i, label in enumerate(y)]
    train, val = dassl(items[: len(a)], items[len(a) :], shots, seed)
    split = few_shot(y, shots, seed, official=official)
    assert [str(i) for i in split.train] == [name for name, _ in train]
    assert [str(i) for i in split.validation] == [name for name, _ in val]


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs ../shared/data/text/splits")
@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "OxfordPets"])
def test_published_lists_give_dassls_shots(name: str) -> None:
    file = SPLITS / f"split_zhou_{name}.json"
    content = json.loads(file.read_text())
    items, official = read_coop_split(file)
    for part, key in zip(PARTS, ("train", "val", "test"), strict=True):
        indices = getattr(official, part)
        assert [items.ids[i] for i in indices] == [entry[0] for entry in content[key]]
        assert [items.class_names[items.labels[i]] for i in indices] == [entry[2] for entry in content[key]]
    for shots, seed in ((1, 1), (16, 3)):
        train, val = dassl(content["train"], content["val"], shots, seed)
        split = few_shot(items, shots, seed, official=official)
        assert [items.ids[i] for i in split.train] == [entry[0] for entry in train]
        assert [items.ids[i] for i in split.validation] == [entry[0] for entry in val]
        assert (split.test == official.test).all()


@given(LABELS, st.integers(1, 6), SEEDS)
def test_official_lists_without_validation_give_it_from_the_train_list(y: np.ndarray, shots: int, seed: int) -> None:
    official = draw_split(y, train=0.6, validation=0.0)
    split = few_shot(y, shots, seed, official=official)
    check(split, y)
    assert set(split.train) | set(split.validation) <= set(official.train)
    assert (split.test == official.test).all()
    for label, n in counts(y, official.train).items():
        assert counts(y, split.train)[label] == min(shots, n - (n > 1))
        assert counts(y, split.validation)[label] == min(shots, 4, n - counts(y, split.train)[label])
    train, _ = dassl([(str(i), int(y[i])) for i in official.train], [], shots, seed)
    if min(counts(y, official.train).values(), default=0) > shots:
        assert [str(i) for i in split.train] == [name for name, _ in train]


@given(LABELS, st.integers(0, 20), SEEDS, st.sampled_from([None, 0.3, 0.5]), st.sampled_from([None, 0, 1, 7]))
def test_one_folder(y: np.ndarray, shots: int, seed: int, test: float | None, wanted: int | None) -> None:
    split = few_shot(y, shots, seed, test=test, validation_shots=wanted)
    check(split, y)
    goal = min(shots, 4) if wanted is None else wanted
    train, validation, tested = (counts(y, getattr(split, part)) for part in PARTS)
    for label, n in counts(y, np.arange(len(y))).items():
        pool = n if test is None else n - tested[label]
        if test is not None:
            assert tested[label] == max(0, min(max(1, round(test * n)), n - 2))
        assert train[label] == min(shots, pool - (1 if goal and pool > 1 else 0))
        assert validation[label] == min(goal, pool - train[label])
        short = train[label] < shots
        assert short == any(f"{label} ({train[label]})" in note for note in split.notes)
    assert set(np.flatnonzero(y == UNLABELED)) <= set(split.unlabeled.tolist())
    used = np.concatenate([getattr(split, part) for part in (*PARTS, "unlabeled")])
    assert set(used.tolist()) == set(range(len(y))), "an image is lost"
    assert equal(split, few_shot(y, shots, seed, test=test, validation_shots=wanted))


@given(LABELS, SEEDS, st.sampled_from([None, 0.3]))
def test_all_shots_use_everything(y: np.ndarray, seed: int, test: float | None) -> None:
    split = few_shot(y, "all", seed, test=test)
    check(split, y)
    train, validation, tested = (counts(y, getattr(split, part)) for part in PARTS)
    for label, n in counts(y, np.arange(len(y))).items():
        assert train[label] + validation[label] + tested[label] == n
        assert train[label] >= 1
        pool = n - tested[label]
        assert validation[label] == (max(1, round(pool / 5)) if pool > 1 else 0)
    assert not split.notes


@given(LABELS, st.integers(0, 9), st.integers(0, 9), SEEDS, SEEDS)
def test_the_fixed_test_set_depends_on_neither_shots_nor_seed(
    y: np.ndarray, a: int, b: int, seed: int, other: int
) -> None:
    assert (few_shot(y, a, seed, test=0.3).test == few_shot(y, b, other, test=0.3).test).all()


def test_another_seed_draws_other_images() -> None:
    y = np.repeat(np.arange(5), 40)
    assert set(few_shot(y, 4, 0).train) != set(few_shot(y, 4, 1).train)


def test_every_image_is_as_likely_as_any_other() -> None:
    drawn = np.bincount(
        np.concatenate([few_shot(np.zeros(10, int), 3, seed).train for seed in range(2000)]), minlength=10
    )
    assert np.abs(drawn - 600).max() < 5 * math.sqrt(2000 * 0.3 * 0.7)


def test_notes_name_the_classes_that_are_short() -> None:
    items = load_items([picture()] * 7, labels=["owl"] * 5 + ["cat"] * 2)
    split = few_shot(items, 4)
    assert split.notes == ("1 class has fewer than 4 training images: cat (1)",)
    assert "4 shots" in repr(split)


def test_all_shots_with_a_number_of_validation_images() -> None:
    split = few_shot(np.zeros(40, int), "all", validation_shots=4)
    assert (len(split.train), len(split.validation)) == (36, 4)
    official = Split(np.arange(30), np.arange(30, 40))
    split = few_shot(np.zeros(40, int), "all", official=official)
    assert (len(split.train), len(split.validation)) == (30, 10)


@pytest.mark.parametrize("shots", [-1, 1.5, "many", True])
def test_shots_that_are_none(shots: object) -> None:
    with pytest.raises(InputError, match="shots"):
        few_shot([0, 1], shots)


@pytest.mark.parametrize("labels", [[0.5, 1.0], [[0], [1]], [0, -2], ["a", "b"]])
def test_labels_that_are_none(labels: list) -> None:
    with pytest.raises(InputError, match="labels"):
        few_shot(labels, 1)


def test_a_share_for_testing_and_official_lists_exclude_each_other() -> None:
    with pytest.raises(InputError, match="test="):
        few_shot([0, 1], 1, official=Split([0]), test=0.3)
    with pytest.raises(InputError, match="share"):
        few_shot([0, 1], 1, test=1.0)


@given(LABELS, st.sampled_from([(0.5, 0.2), (0.8, 0.0), (1.0, 0.0), (0.7, 0.3)]), SEEDS)
def test_divide(y: np.ndarray, shares: tuple[float, float], seed: int) -> None:
    split = draw_split(y, train=shares[0], validation=shares[1], seed=seed)
    check(split, y)
    share = (*shares, 1 - sum(shares))
    for label, n in counts(y, np.arange(len(y))).items():
        parts = [counts(y, getattr(split, part))[label] for part in PARTS]
        assert sum(parts) == n
        assert parts[0] >= 1
        for part, wanted in zip(parts, share, strict=True):
            assert abs(part - wanted * n) <= 1.5
            assert part or wanted < 1e-9 or n < 3
    assert equal(split, draw_split(y, train=shares[0], validation=shares[1], seed=seed))


def test_divide_refuses_shares_above_one() -> None:
    with pytest.raises(InputError, match="shares"):
        draw_split([0, 1], train=0.8, validation=0.4)


def test_unlabeled_protocols() -> None:
    y = np.array([0, 0, 1, 1, -1])
    official = Split([0, 2], [], [1, 3], [4])
    inductive = unlabeled(y, official=official)
    assert inductive.unlabeled.tolist() == [0, 2, 4]
    assert inductive.test.tolist() == [1, 3]
    assert len(inductive.train) == 0
    transductive = unlabeled(y, official=official, transductive=True)
    assert transductive.unlabeled.tolist() == transductive.test.tolist() == [1, 3]
    assert unlabeled(y).unlabeled.tolist() == [0, 1, 2, 3, 4]
    assert len(unlabeled(y).test) == 0
    assert unlabeled(y, transductive=True).test.tolist() == [0, 1, 2, 3]


@given(st.integers(2, 11), SEEDS)
def test_base_to_new(n_classes: int, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_classes), 12))
    split = few_shot(y, 4, seed, test=0.3)
    both = base_to_new(y, n_classes, split)
    half = math.ceil(n_classes / 2)
    assert both.base_classes.tolist() == list(range(half))
    assert both.new_classes.tolist() == list(range(half, n_classes))
    assert (y[both.base.train] < half).all()
    assert (y[both.new_test] >= half).all()
    assert set(both.base.train) == {i for i in split.train if y[i] < half}, "shots are drawn before the classes are cut"
    assert sorted([*both.base.test, *both.new_test]) == sorted(split.test)
    assert set(relabel(y[both.new_test], both.new_classes)) == set(range(n_classes - half))
    with pytest.raises(InputError, match="number"):
        base_to_new(y, n_classes - 1, split)


def test_relabel() -> None:
    assert relabel([0, 1, 2, 3, -1], [3, 1]).tolist() == [-1, 1, -1, 0, -1]
    assert relabel([], [0]).tolist() == []


@given(st.lists(st.integers(1, 150), min_size=1, max_size=8), st.sampled_from([1, 10, 20, 50]), SEEDS)
@settings(max_examples=50)
def test_long_tail_follows_the_profile(sizes: list[int], imbalance: int, seed: int) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    split = long_tail(y, imbalance, seed)
    capped = sorted((min(size, 100) for size in sizes), reverse=True)
    profile = [max(1, int(capped[0] * (1 / imbalance) ** (i / max(1, len(sizes) - 1)))) for i in range(len(sizes))]
    kept = [min(size, wanted) for size, wanted in zip(capped, profile, strict=True)]
    assert sorted(counts(y, split.train).values(), reverse=True) == sorted(kept, reverse=True)
    assert len(set(split.train.tolist())) == len(split.train)
    assert bool(split.notes) == (kept != profile)


def candles_draw(y: np.ndarray, imb_ratio: float, seed: int) -> list[int]:
    """Transcription of ``gen_imbalanced_data`` of Candle's code, on the labels of a training list."""
    np.random.seed(seed)
    label_count = Counter(y.tolist()).most_common()
    cls_num, img_max = len(label_count), label_count[0][1]
    numbers = [int(max(img_max * (imb_ratio ** (k / (cls_num - 1.0))), 1)) for k in range(cls_num)]
    reassigned = [0] * cls_num
    for (label, _), number in zip(label_count, numbers, strict=True):
        reassigned[label] = number
    selected: list[int] = []
    for label, number in zip(np.unique(y), reassigned, strict=True):
        rows = np.where(y == label)[0]
        np.random.shuffle(rows)
        selected.extend(rows[:number].tolist())
    return [row for row in range(len(y)) if row in selected]


@pytest.mark.parametrize(("imbalance", "seed"), [(10, 1), (20, 2), (50, 3)])
def test_long_tail_draws_the_images_of_candle(imbalance: int, seed: int) -> None:
    y = np.random.default_rng(seed).choice(5, 300, p=[0.3, 0.1, 0.25, 0.25, 0.1])
    rows = np.random.default_rng(0).permutation(300)[:200]  # a list in an order of its own
    split = long_tail(y, imbalance, seed, official=Split(rows))
    assert split.train.tolist() == rows[candles_draw(y[rows], 1 / imbalance, seed)].tolist()


def test_long_tail_keeps_the_other_lists_and_names_classes_off_the_curve() -> None:
    y = np.repeat([0, 1], 50)
    official = draw_split(y)
    split = long_tail(y, 10, official=official)
    assert set(split.train) < set(official.train)
    assert (split.test == official.test).all()
    assert split.notes == ()
    short = long_tail(np.repeat([0, 1, 2], [90, 5, 20]), 10, class_names=["ant", "bee", "cat"])
    assert short.notes == (
        "2 classes have fewer images than the long tail gives them: 'cat' (20 of 28), 'bee' (5 of 9)",
    )
    with pytest.raises(InputError, match="imbalance"):
        long_tail(y, 0.5)


def folder(root: Path, n: int) -> Items:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (root / name / f"{i}.png").write_bytes(encoded(picture(8, 8), "PNG"))
    return load_items(root)


def test_a_saved_split_fits_a_folder_that_grew(tmp_path: Path) -> None:
    items = folder(tmp_path / "photos", 8)
    split = few_shot(items, 3, seed=7, test=0.3)
    file = split.save(tmp_path / "split.json", items)
    assert equal(Split.load(file, items), split)
    grown = folder(tmp_path / "photos", 20)
    loaded = Split.load(file, grown)
    for part in PARTS:
        assert [grown.ids[i] for i in getattr(loaded, part)] == [items.ids[i] for i in getattr(split, part)]
    assert (loaded.seed, loaded.description) == (7, split.description)
    assert loaded.notes == ()
    assert [p.name for p in tmp_path.iterdir()] in (["photos", "split.json"], ["split.json", "photos"])


def test_images_that_are_gone_are_reported(tmp_path: Path) -> None:
    items = folder(tmp_path / "photos", 6)
    split = few_shot(items, 2)
    file = split.save(tmp_path / "split.json", items)
    (tmp_path / "photos" / items.ids[split.train[0]]).unlink()
    loaded = Split.load(file, load_items(tmp_path / "photos"))
    assert len(loaded.train) == 3
    assert any("1 image of the split is no longer there" in note for note in loaded.notes)
    with pytest.raises(InputError, match="another folder"):
        Split.load(file, load_items([picture()] * 3))


def test_a_split_whose_classes_changed_is_reported(tmp_path: Path) -> None:
    items = folder(tmp_path / "photos", 4)
    file = few_shot(items, 1).save(tmp_path / "split.json", items)
    (tmp_path / "photos" / "emu").mkdir()
    assert any("class names have changed" in note for note in Split.load(file, load_items(tmp_path / "photos")).notes)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = folder(tmp_path / "photos", 4)
    file = few_shot(items, 1).save(tmp_path / "split.json", items)
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match="writable, got: disk full"):
        few_shot(items, 2).save(file, items)
    assert file.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "split.json"}


def test_files_that_are_no_splits(tmp_path: Path) -> None:
    items = folder(tmp_path / "photos", 2)
    for content, message in (("{", "not valid JSON"), ("{}", "format"), ("[]", "format")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(InputError, match=message):
            Split.load(tmp_path / "x.json", items)
    (tmp_path / "x.json").write_text('{"format": "modalign-split-1", "train": [1]}')
    with pytest.raises(InputError, match="'train'"):
        Split.load(tmp_path / "x.json", items)
    for change in ({"notes": 5}, {"notes": [5]}, {"class_names": None}, {"seed": "x"}, {"description": []}):
        (tmp_path / "x.json").write_text(json.dumps({"format": "modalign-split-1", "train": [items.ids[0]], **change}))
        with pytest.raises(InputError, match="is damaged"):
            Split.load(tmp_path / "x.json", items)
    for lists in ({"train": [items.ids[0]] * 2}, {"train": [items.ids[0]], "test": [items.ids[0]]}):
        (tmp_path / "x.json").write_text(json.dumps({"format": "modalign-split-1", **lists}))
        with pytest.raises(InputError, match="every image once"):
            Split.load(tmp_path / "x.json", items)
    with pytest.raises(InputError, match="does not exist"):
        Split.load(tmp_path / "y.json", items)
    twice = items.select([0, 0])
    with pytest.raises(InputError, match="unique"):
        Split([0]).save(tmp_path / "x.json", twice)
