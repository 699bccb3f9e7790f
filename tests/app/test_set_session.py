"""Sessions of several classes per image: the log of sets, refits, the exam, and what is exported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio needs the extra 'app'")
from starlette.testclient import TestClient

import modalign as ma
from modalign.app.studio.exam import LEAST_SHOWN, exam_key, exam_limit
from modalign.app.studio.label_log import LabelLog
from modalign.app.studio.model_saving import save_session_model
from modalign.app.studio.opening import open_session
from modalign.app.studio.routes import studio_app
from modalign.app.studio.row_queries import RowQuery, find_rows, row_entries, session_summary
from modalign.app.studio.sets.set_labeling import SetLabeling
from modalign.app.studio.sets.set_refitting import SetAnswers, blend_sets
from modalign.app.studio.sets.set_session import SetSession
from modalign.app.web import WRITE_HEADER, Access
from modalign.core.errors import InputError
from modalign.core.label_matrix import label_sets
from modalign.data.digit_pairs import load_digit_pairs
from modalign.data.digits import load_digits
from modalign.data.label_sets import LabeledSets, load_label_sets
from modalign.evaluate.multi_label_metrics import micro_f1, multi_label_scores
from modalign.model.multi_label import MultiLabelClassifier, adapt_multi_label

N = 60


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with a table of their sets, one of them empty and one unknown."""
    folder, pairs = tmp_path_factory.mktemp("photos"), load_digit_pairs(N, 0)
    rows = [("path", "labels")]
    for i, shown in enumerate(label_sets(pairs.matrix, pairs.class_names)):
        (folder / f"{i:02d}.png").write_bytes(pairs.items.read(i))
        rows.append((f"{i:02d}.png", {0: ";", 1: ""}.get(i, ";".join(shown))))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def source(table: Path) -> LabeledSets:
    return load_label_sets(table)


@pytest.fixture(scope="module")
def session(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetSession]:
    """With the sets of the table, and fitted to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
        state = tmp_path_factory.mktemp("state") / "s"
        opened = open_session(table, state=state, multi_label=True, import_labels=True, thorough=False)
        assert isinstance(opened, SetSession)
        opened.fast.close()
        opened.refit_now()
        yield opened
        opened.close()


@pytest.mark.parametrize("n", [49, 50])
def test_an_exam_is_possible_from_the_number_of_images_that_is_named(n: int, session: SetSession) -> None:
    named, contents = session_summary(session)["least_images"], [f"{i:016x}" for i in range(n)]
    reserved = sum(exam_key(content, 0) < exam_limit(contents, 0) for content in contents)
    assert (reserved >= LEAST_SHOWN) == (n >= named)


def test_a_log_of_sets_is_replayed_with_undo_merges_and_labels_of_one_class(tmp_path: Path) -> None:
    """Against a dictionary that is changed step by step; the last labels are those of a former kind of event."""
    ids, contents = [f"{i}.png" for i in range(10)], [f"{i:016x}" for i in range(10)]

    def opened() -> SetLabeling:
        return SetLabeling(ids, contents, LabelLog(tmp_path), 0, 0)

    labeling = opened()
    for name in "abcd":
        labeling.add_class(name)
    with pytest.raises(InputError, match="rename the class"):
        labeling.add_class("salt;pepper")
    with pytest.raises(InputError, match="rename the class"):
        labeling.rename_class(0, "salt|pepper")
    labeling.label_sets([0, 1], [2, 0, 2])
    labeling.label_sets([1, 2], [1], how="add")
    labeling.label_sets([1], [0, 3], how="remove")
    labeling.label_sets([3], [])
    labeling.label_sets([4], [3])
    labeling.label_sets([4], None)
    labeling.label_sets([5], [3])
    labeling.label_sets([0], [3])
    assert labeling.undo() == "sets"
    labeling.merge_classes(3, 0)
    labeling.label([6], 1)
    labeling.label([7], "none")
    expected = {0: (0, 2), 1: (1, 2), 2: (1,), 3: (), 5: (0,), 6: (1,), 7: ()}
    for _ in range(2):
        assert {row: found for row in range(10) if (found := labeling.set_of(row)) is not None} == expected
        matrix = labeling.matrix((0, 1, 2))
        assert [tuple(np.flatnonzero(matrix[row] == 1)) for row in expected] == list(expected.values())
        assert (matrix[[4, 8, 9]] == -1).all()
        before = (tmp_path / "labels.jsonl").read_bytes()
        labeling.log.close()
        labeling = opened()
        assert (tmp_path / "labels.jsonl").read_bytes() == before  # nothing is written again
    for classes in ([9], [-1]):
        with pytest.raises(InputError, match="Expected numbers of classes"):
            labeling.label_sets([0], classes)
    labeling.log.close()


def test_sets_of_the_source_are_taken_over_and_what_is_unknown_is_not(session: SetSession, source: LabeledSets) -> None:
    assert session.labeling.class_ids == tuple(range(10))
    assert tuple(session.labeling.state.names.values()) == source.class_names
    np.testing.assert_array_equal(session.labeling.matrix(session.labeling.class_ids), source.matrix)
    assert session.label_of(0) == []
    assert session.label_of(1) is None
    assert session.change(lambda labeling: labeling.undo()) is None


def test_the_exam_is_graded_as_by_the_measures_and_never_learned_from(session: SetSession, source: LabeledSets) -> None:
    rows = np.flatnonzero(session.labeling.examined)
    assert len(rows) == session.labeling.reserved.sum() == N // 5
    assert session.answers.n_labels == N - 1 - len(rows)
    P, thresholds = session.answers.probabilities, session.answers.thresholds
    expected = multi_label_scores(source.matrix[rows], P[rows], thresholds)
    shown = session_summary(session)
    assert shown["exam"]["sets"]["map"] == vars(expected.mean_average_precision)
    assert shown["exam"]["sets"]["f1"] == vars(expected.micro_f1)
    assert [row["n"] for row in shown["exam"]["classes"]] == [row.positives for row in expected.per_class]
    (point,) = shown["curve"]
    again = micro_f1(source.matrix[rows], (thresholds <= P)[rows])
    assert (point["accuracy"], point["low"], point["high"]) == (again.value, again.low, again.high)
    assert again.value == expected.micro_f1.value
    before = P.copy()
    wrong = [row for row in rows.tolist() if session.label_of(row)]
    session.change(lambda labeling: labeling.label_sets(wrong, []))
    np.testing.assert_array_equal(session.refit_now().probabilities, before)
    assert session.exam_scores() is None  # no exam image shows a class any more
    session.change(lambda labeling: labeling.undo())
    assert session_summary(session)["exam"]["sets"] == shown["exam"]["sets"]


def test_rows_are_found_by_their_sets(session: SetSession, source: LabeledSets) -> None:
    labeled = find_rows(session, RowQuery(labeled=3))
    assert labeled.tolist() == np.flatnonzero(source.matrix[:, 3] == 1).tolist()
    assert find_rows(session, RowQuery(labeled="none")).tolist() == [0]
    predicted = find_rows(session, RowQuery(predicted=3))
    assert predicted.tolist() == np.flatnonzero(session.answers.shown[:, 3]).tolist()[: len(predicted)]
    doubted = find_rows(session, RowQuery("disagreement")).tolist()
    for entry in row_entries(session, doubted):
        assert sorted(entry["shown"]) != entry["label"]
    unsure = session.margin[find_rows(session, RowQuery(order="uncertain"))]
    assert (np.diff(unsure) >= 0).all()


def test_sets_are_labeled_and_exported_over_http(session: SetSession, source: LabeledSets, table: Path) -> None:
    with TestClient(
        studio_app(session, Access(port=8321)), base_url="http://127.0.0.1:8321", headers={WRITE_HEADER: "1"}
    ) as client:
        for of in ("none", 3, [77]):
            answer = client.post("/api/label", json={"rows": [1], "of": of})
            assert (answer.status_code, answer.json()["error"][:8]) == (422, "Expected")
        assert client.post("/api/label", json={"rows": [1], "of": [2, 5]}).status_code == 200
        sets = {source.items.ids[i]: tuple(np.flatnonzero(row == 1)) for i, row in enumerate(source.matrix)}
        sets[source.items.ids[1]] = (2, 5)
        path = session.labeling.log.folder / "labels.csv"
        path.write_bytes(client.get("/api/export/labels.csv").content)
        again = load_label_sets(path, classes=source.class_names)
        images = zip(again.items.ids, again.matrix, strict=True)
        read = {Path(name).name: tuple(np.flatnonzero(row == 1)) for name, row in images}
        assert read == sets
        assert (again.matrix != -1).all()
        assert (again.items.parts == "test").sum() == N // 5
        coco = client.get("/api/export/coco.json").json()
        found: dict[str, set[int]] = {image["file_name"]: set() for image in coco["images"]}
        name_of = {image["id"]: image["file_name"] for image in coco["images"]}
        for annotation in coco["annotations"]:
            found[name_of[annotation["image_id"]]].add(annotation["category_id"])
        assert {name: tuple(sorted(shown)) for name, shown in found.items()} == sets
        tasks = client.get("/api/export/label-studio.json").json()
        chosen = [c for r in tasks[1]["annotations"][0]["result"] for c in r["value"]["choices"]]
        assert chosen == [source.class_names[k] for k in (2, 5)]
        assert tasks[0]["annotations"] == [{"result": []}]
        rows = list(csv.DictReader(io.StringIO(client.get("/api/export/predictions.csv").text)))
        assert [row["predicted"] for row in rows] == [
            ";".join(source.class_names[k] for k in session.predicted_set(i)) or ";" for i in range(N)
        ]
        client.post("/api/export/sorted")
        assert session.slow.wait()
        assert "one class per image" in session.slow.state()["errors"]["sorted"]
        session.change(lambda labeling: labeling.undo())


def test_the_model_has_learned_no_exam_image_and_its_record_has_the_exam(session: SetSession) -> None:
    model = ma.load(save_session_model(session))
    assert isinstance(model, MultiLabelClassifier)
    assert model.fitted_on == {session.labeling.contents[row] for row in np.flatnonzero(session.labeling.taught)}
    assert model.record["exam"]["sets"] == session.graded()["exam"]["sets"]


def test_a_folder_of_sets_is_not_opened_for_single_classes_and_the_other_way_round(
    table: Path, tmp_path: Path, own_cache: None
) -> None:
    open_session(table, state=tmp_path / "sets", multi_label=True, thorough=False).close()
    with pytest.raises(InputError, match=r"one class per image, .* has several classes"):
        open_session(table, state=tmp_path / "sets", thorough=False)
    assert json.loads((tmp_path / "sets" / "studio.json").read_text())["multi_label"] is True


# --- a given model


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = adapt_multi_label(load_digit_pairs(40, 0, random_state=1), method="gda")
    return model.save(tmp_path_factory.mktemp("given") / "model")


def test_classes_of_a_given_model_that_are_left_out_are_named(table: Path, given: Path, tmp_path: Path) -> None:
    said = r"'nine' of the model is not among the classes; name all classes by classes=…"
    with pytest.warns(UserWarning, match=said):
        opened = open_session(
            table.parent, state=tmp_path / "s", model=given, multi_label=True, thorough=False,
            classes=[name for name in ma.load(given).class_names if name != "nine"],
        )  # fmt: skip
    opened.close()
    assert "'nine'" in opened.settings.notes[-1]


def test_a_session_begins_with_a_given_model_and_goes_on_from_it(table: Path, given: Path, tmp_path: Path) -> None:
    """A class keeps the model until images show it and do not; a class that the model does not have is learned."""
    opened = open_session(table.parent, state=tmp_path / "s", model=given, multi_label=True, thorough=False)
    assert isinstance(opened, SetSession)
    try:
        opened.fast.close()
        model = ma.load(given)
        assert isinstance(model, MultiLabelClassifier)
        known = model.predict(table.parent)
        assert opened.labeling.ids == known.ids
        assert tuple(opened.labeling.state.names.values()) == model.class_names
        np.testing.assert_allclose(opened.answers.probabilities, known.probabilities, rtol=1e-6)
        assert (opened.answers.shown == known.answers).all()
        matrix = load_label_sets(table).matrix
        ids = opened.labeling.class_ids
        free = [r for r in range(N) if not opened.labeling.reserved[r] and (matrix[r] >= 0).all()]
        rows = [r for r in free if matrix[r, 9] == 0][:20]
        new = opened.labeling.add_class("dark")
        for row in rows:
            shown = [ids[k] for k in np.flatnonzero(matrix[row] == 1)]
            opened.labeling.label_sets([row], [*shown, *([new] if row % 2 else [])])
        answers = opened.refit_now()
        assert answers.method.endswith("with the given model")
        np.testing.assert_allclose(answers.probabilities[:, 9], known.probabilities[:, 9], rtol=1e-5)
        assert np.abs(answers.probabilities[:, :9] - known.probabilities[:, :9]).max() > 0.01
        assert answers.probabilities[:, 10].any()
        assert not opened.first.probabilities[:, 10].any()
    finally:
        opened.close()


@pytest.mark.parametrize(("right", "weight"), [("refit", 0.0), ("given", 1.0)])
def test_of_refit_and_given_model_the_better_counts(right: str, weight: float) -> None:
    truth = np.arange(40)[:, None] % 2
    good, bad = np.where(truth, 0.999, 0.001), np.where(truth, 0.3, 0.7)
    own, other = (good, bad) if right == "refit" else (bad, good)
    refit = SetAnswers("GDA", (0,), own, 40, held_out=(np.arange(40), own), thresholds=np.array([0.4]))
    before = SetAnswers("the given model", (0,), other, 0, thresholds=np.array([0.6]))
    found = blend_sets(refit, before, truth.astype(np.int8))
    np.testing.assert_allclose(found.probabilities, good, rtol=1e-6)
    np.testing.assert_allclose(found.thresholds, [0.4 if weight == 0 else 0.6])
    nothing = blend_sets(refit, before, np.where(truth, 1, -1).astype(np.int8))  # no image that does not show it
    np.testing.assert_allclose(nothing.probabilities, other, rtol=1e-6)


def test_a_model_of_the_other_kind_is_refused(table: Path, given: Path, tmp_path: Path) -> None:
    one = ma.adapt(load_digits().select(range(20)), method="zero_shot", mirror=False).save(tmp_path / "one")
    with pytest.raises(
        InputError, match=r"several classes per image in .*, got a model of one class per image;.*without multi_label"
    ):
        open_session(table.parent, state=tmp_path / "s", model=one, multi_label=True)
    with pytest.raises(InputError, match=r"one class per image in .*, got a model of several .*with multi_label"):
        open_session(table.parent, state=tmp_path / "s", model=given)
    assert not (tmp_path / "s").exists()
