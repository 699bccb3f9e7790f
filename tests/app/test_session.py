"""A session on digits: the images it selects, its fits, and its results."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalign.app.studio.acquire import acquire, margins
from modalign.app.studio.background import Lane
from modalign.app.studio.exam import grade
from modalign.app.studio.opening import open_session
from modalign.app.studio.refitting import balanced, blend_with_model, refit
from modalign.app.studio.row_queries import RowQuery, find_rows, row_entries, session_summary
from modalign.app.studio.session import Session
from modalign.core.errors import EncoderMismatchError, InputError
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.evaluate.metrics import proportion

N = 300


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(N))


@pytest.fixture
def session(digits: Items, tmp_path: Path, own_cache: None) -> Iterator[Session]:
    opened = open_session(digits, state=tmp_path / "state", thorough=False)
    yield opened
    opened.close()


def answer(session: Session, rows: list[int], labels: np.ndarray) -> None:
    for row in rows:
        session.change(lambda labeling, row=row: labeling.label([row], int(labels[row])))


def test_without_labels_answers_are_zero_shot(session: Session, digits: Items) -> None:
    from modalign import ZeroShot
    from modalign.data.text.descriptions import class_sentences

    encoder = load_encoder("tiny")
    text = encoder.embed_texts(class_sentences(digits.class_names), class_names=digits.class_names)
    expected = ZeroShot().fit(session.features, text=text).scores(session.features).argmax(axis=1)
    assert (session.predicted == expected).all()
    assert session_summary(session)["exam"] == {"answered": 0, "none": 0, "accuracy": None, "gain": None}


@pytest.mark.parametrize("by", ["both", "uncertain", "diverse", "random"])
def test_every_fifth_requested_image_is_the_next_of_the_exam(session: Session, by: str) -> None:
    reserved = session.labeling.reserved
    rows = session.next_rows(by, 25)
    assert len(set(rows)) == 25
    assert [bool(reserved[row]) for row in rows] == [i % 5 == 4 for i in range(25)]
    assert rows[4::5] == session.labeling.exam_order[:5].tolist()
    session.change(lambda labeling: labeling.label(rows[:7], 0))
    again = session.next_rows(by, 10)
    assert not set(again) & set(rows[:7])
    assert [bool(reserved[row]) for row in again] == [(7 + i) % 5 == 4 for i in range(10)]
    assert session.next_rows("exam", 3) == session.labeling.exam_order[1:4].tolist()


def test_exam_images_without_a_label_are_in_no_list_and_show_no_prediction(session: Session, digits: Items) -> None:
    hidden = set(np.flatnonzero(session.labeling.reserved))
    for look in (
        RowQuery(),
        RowQuery("unlabeled", "uncertain"),
        RowQuery(order="similar", to=0),
        RowQuery(order="text", text="two"),
    ):
        rows = find_rows(session, look)
        assert len(rows) == N - len(hidden)
        assert not hidden & set(rows.tolist())
    entry = row_entries(session, [int(session.labeling.exam_order[0])])[0]
    assert entry["exam"]
    assert entry["best"] == []
    session.draw_map()
    assert not hidden & set(session.positions[0].tolist())


def test_exam_labels_change_no_answer(session: Session, digits: Items) -> None:
    answer(
        session, [row for row in session.next_rows("random", 25) if not session.labeling.reserved[row]], digits.labels
    )
    before = session.refit_now().probabilities
    wrong = (digits.labels + 1) % 10
    answer(session, session.next_rows("exam", 20), wrong)
    after = session.refit_now()
    assert (after.probabilities == before).all()
    assert after.n_labels == 20
    result = session.exam()
    assert result.answered == 20
    assert result.accuracy is not None
    assert result.accuracy.top1 < 0.2
    assert result.accuracy == proportion(round(result.accuracy.top1 * 20), 20)


def test_no_accuracy_is_shown_for_few_exam_labels_and_none_of_these_are_counted_apart() -> None:
    truth = np.arange(10)
    assert grade(truth[:9], truth[:9], None, 0).accuracy is None
    found = grade(truth, np.where(truth < 9, truth, 0), truth, 3)
    assert (found.accuracy, found.none, found.answered) == (proportion(9, 10), 3, 10)
    assert found.gain is not None
    assert found.gain.difference == pytest.approx(-0.1)


def test_points_of_the_curve_are_graded_on_the_same_images_after_a_restart(
    digits: Items, tmp_path: Path, own_cache: None
) -> None:
    session = open_session(digits, state=tmp_path, thorough=False)
    for _ in range(4):
        answer(session, session.next_rows("both", 10), digits.labels)
        session.refit_now()
    answer(session, session.next_rows("exam", 10), digits.labels)
    shown = session_summary(session)
    points = shown["curve"]
    assert [p["labels"] for p in points if p["labels"] in (8, 16, 24, 32)] == [8, 16, 24, 32]
    assert {p["n"] for p in points} == {18}
    assert shown["recent"]["labels"] >= 20
    assert sum(n for _, _, n in shown["cells"]) == 18
    session.close()
    again = open_session(digits, state=tmp_path, thorough=False)
    assert again.fast.wait()
    assert again.answers.n_labels == session.answers.n_labels == 32
    assert session_summary(again)["curve"] == points
    assert (again.labeling.labels == session.labeling.labels).all()
    again.close()


def test_a_refit_of_older_labels_does_not_replace_a_newer_or_thorough_one(
    session: Session, digits: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "request_refit", lambda: None)  # no refits but those below
    answer(session, session.next_rows("both", 20), digits.labels)
    fit, newer = session._fit, []

    def slow(*given: Any) -> Any:  # while it computes, another lane learns from more labels, thoroughly
        old = fit(*given)
        monkeypatch.setattr(session, "_fit", fit)
        answer(session, session.next_rows("both", 10), digits.labels)
        newer.append(session.refit_now(thorough=True))
        return old

    monkeypatch.setattr(session, "_fit", slow)
    older = session.refit_now()
    assert older.n_labels < newer[0].n_labels
    assert session.answers is newer[0]
    session.refit_now()  # a fast one of the same labels
    assert session.answers is newer[0]


def test_classes_are_added_merged_and_followed_by_the_answers(session: Session, digits: Items) -> None:
    answer(session, session.next_rows("both", 20), digits.labels)
    session.refit_now()
    three, eight = 3, 8
    before = session.answers.probabilities
    session.change(lambda labeling: labeling.merge_classes(eight, three))
    merged = session.answers
    assert eight not in merged.class_ids
    np.testing.assert_allclose(merged.probabilities[:, 3], before[:, 3] + before[:, 8], rtol=1e-6)
    np.testing.assert_allclose(merged.probabilities.sum(axis=1), 1, rtol=1e-5)
    new = session.change(lambda labeling: labeling.add_class("smudge"))
    assert (session.answers.probabilities[:, -1] == 0).all()
    refitted = session.refit_now()
    assert refitted.class_ids[-1] == new
    assert refitted.probabilities[:, -1].max() > 0  # from its text


def test_disagreement_lists_the_wrong_label(session: Session, digits: Items) -> None:
    free = np.flatnonzero(~session.labeling.reserved)[:80]
    labels = digits.labels.copy()
    labels[free[11]] = (labels[free[11]] + 5) % 10
    answer(session, free.tolist(), labels)
    session.refit_now(thorough=True)
    assert free[11] in find_rows(session, RowQuery("disagreement"))
    assert free[11] in find_rows(session, RowQuery("labeled", "suspect"))[:5]


def test_orders_and_filters(session: Session, digits: Items) -> None:
    sure = session.top[find_rows(session, RowQuery(order="confident"))]
    assert (np.diff(sure) <= 0).all()
    unsure = session.margin[find_rows(session, RowQuery(order="uncertain"))]
    assert (np.diff(unsure) >= 0).all()
    assert find_rows(session, RowQuery(order="similar", to=7))[0] == 7
    rows = find_rows(session, RowQuery(order="text", text="a photo of the digit three"))
    assert (digits.labels[rows[:10]] == 3).mean() > 0.7
    threes = find_rows(session, RowQuery(predicted=3))
    assert (session.predicted[threes] == 3).all()
    session.change(lambda labeling: labeling.label(threes[:4].tolist(), "none"))
    assert find_rows(session, RowQuery("none")).tolist() == threes[:4].tolist()
    assert find_rows(session, RowQuery(labeled="none")).tolist() == threes[:4].tolist()
    with pytest.raises(InputError, match="order"):
        find_rows(session, RowQuery(order="best"))


def test_acquisitions_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(4), 200).astype(np.float32)
    X = rng.normal(size=(200, 6)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    X[100:150] = X[100]  # copies
    margin = margins(P)
    assert margin.tolist() == pytest.approx([float(np.diff(np.sort(row)[-2:])[0]) for row in P])
    candidates = np.arange(20, 200)
    given = {"labeled": np.arange(20), "margin": margin, "vectors": X}

    def ask(by: str, count: int) -> list[int]:
        return acquire(by, count, candidates=candidates, generator=np.random.default_rng(1), **given).tolist()

    assert ask("uncertain", 5) == sorted(candidates.tolist(), key=lambda i: margin[i])[:5]
    pool = set(sorted(candidates.tolist(), key=lambda i: margin[i])[:18])
    both = ask("both", 8)
    assert set(both) <= pool
    assert both[0] == min(pool, key=lambda i: margin[i])
    assert len(set(range(100, 150)) & set(ask("diverse", 30))) <= 1  # of the copies at most one
    for by in ("both", "diverse", "random", "uncertain"):
        assert sorted(ask(by, 500)) == candidates.tolist()
    assert acquire("both", 3, candidates=candidates[:0], generator=rng, **given).size == 0


def test_without_text_classes_without_labels_get_nothing(digits: Items) -> None:
    features = load_encoder("tiny").embed_images(digits)
    labels = np.full(N, -1)
    assert not refit(features, labels, (0, 1, 2), None).method
    labels[:6] = [0, 2, 0, 2, 0, 2]
    found = refit(Features(features.vectors), labels, (5, 6, 7), None)
    assert (found.probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)


def test_a_given_model_answers_first_and_is_weighed_by_the_labels(
    digits: Items, tmp_path: Path, own_cache: None
) -> None:
    import modalign as ma

    rest = load_digits().select(range(N, 900))
    model = ma.adapt(rest, method="gda", mirror=False)
    folder = model.save(tmp_path / "model")
    session = open_session(digits, state=tmp_path / "state", model=folder, thorough=False)
    assert (session.predicted == model.predict_proba(digits).argmax(axis=1)).all()
    answer(session, session.next_rows("random", 20), digits.labels)
    found = session.refit_now()
    assert "given model (weight" in found.method
    session.close()
    features, labels = session.features, np.where(np.arange(N) < 60, digits.labels, -1)
    fitted = refit(features, labels, tuple(range(10)), None)
    truth = np.eye(10, dtype=np.float32)[digits.labels]
    assert "(weight 1)" in blend_with_model(fitted, truth, features, labels, None).method
    assert "(weight 0)" in blend_with_model(fitted, truth[:, ::-1], features, labels, None).method


def test_labels_of_the_source_can_be_taken_over(digits: Items, tmp_path: Path, own_cache: None) -> None:
    session = open_session(digits, state=tmp_path, import_labels=True, thorough=False)
    assert (session.labeling.labels == digits.labels).all()
    assert session.exam().answered == session.labeling.reserved.sum() == N // 5
    assert session.change(lambda labeling: labeling.undo()) is None
    session.close()


def test_what_cannot_be_opened_is_refused_in_one_sentence(digits: Items, tmp_path: Path, own_cache: None) -> None:
    from modalign.core.features import UNLABELED

    plain = Items(digits.ids[:5], digits.blobs[:5])
    assert (plain.labels == UNLABELED).all()
    with pytest.raises(InputError, match=r"at least 2 classes, got 0; name them by classes="):
        open_session(plain, state=tmp_path / "a")
    open_session(plain, classes=["x", "y"], state=tmp_path / "a", thorough=False).close()
    open_session(plain, state=tmp_path / "a", thorough=False).close()  # it knows its classes
    other = copy.copy(load_encoder("tiny", cache=False))
    other.spec = replace(other.spec, name="other", fingerprint="0" * len(other.spec.fingerprint))
    with pytest.raises(EncoderMismatchError, match=r"'tiny'.*another folder with state="):
        open_session(plain, state=tmp_path / "a", encoder=other)


def test_of_waiting_jobs_of_a_kind_the_last_is_done_and_errors_are_reported() -> None:
    done: list[int] = []
    lane = Lane("test", lambda: None)
    for i in range(5):
        lane.request("count", lambda i=i: done.append(i), delay=0.05)

    def fail() -> None:
        raise InputError("Expected more.")

    lane.request("fail", fail)
    assert lane.wait(10)
    assert done == [4]
    assert lane.state()["errors"] == {"fail": "Expected more."}
    lane.close()


def test_of_many_labels_a_refit_takes_some_of_every_class() -> None:
    labels = np.repeat([0, 1, 2, -1], [500, 3, 40, 57])
    rows = np.flatnonzero(labels >= 0)
    found = balanced(labels, rows, 60)
    assert len(found) == len(set(found.tolist())) == 60
    assert set(found.tolist()) <= set(rows.tolist())
    assert sorted(np.bincount(labels[found]).tolist()) == [3, 28, 29]
    assert (balanced(labels, rows, 543) == rows).all()
