"""Everything that was computed can be got out: every format holds the same numbers and accounts for every image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import modalign as ma
from modalign.core.errors import InputError, MissingExtraError, UnknownNameError
from modalign.core.features import Quarantined
from modalign.model.exports import FIXED, OPTIONAL, check_output, class_columns
from modalign.model.predictions import NONE_OF_THESE, ORDERS, Predictions

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
odd = st.sampled_from(
    ["=1+1", "@x", "-5", "'quoted", "a,b", 'a"b', "a\nb", "a\rb", "\tx", "id", "reason", "class id", ""]
)


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    classes = tuple(draw(st.lists(text | odd, min_size=2, max_size=5, unique=True)))
    ids = tuple(draw(st.lists(text | odd, max_size=5, unique=True)))
    raw = draw(st.lists(st.floats(1e-300, 1), min_size=len(ids) * len(classes), max_size=len(ids) * len(classes)))
    table = np.array(raw, dtype=np.float64).reshape(len(ids), len(classes))
    flags = [
        np.array(draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), dtype=bool) for _ in OPTIONAL
    ]
    rejected, transductive = (found if draw(st.booleans()) else None for found in flags)
    return Predictions(
        ids,
        classes,
        table / table.sum(axis=1, keepdims=True),
        quarantined=tuple(Quarantined(f"bad {i}", draw(text | odd)) for i in range(draw(st.integers(0, 2)))),
        rejected=rejected,
        origin={"version": "0", "encoder": {"name": "e", "fingerprint": "f"}, "model": {"method": "m"}},
        transductive=transductive,
    )


def unquoted(cell: str) -> str:
    return cell.removeprefix("'")


def read_csv(path: Path) -> list[dict[str, str]]:
    """With nothing but the standard library, and the mark before formulas taken off."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return [dict(zip(map(unquoted, header), map(unquoted, row), strict=True)) for row in rows]


@given(found=predictions())
def test_every_format_holds_the_same_numbers_for_every_image(
    tmp_path_factory: pytest.TempPathFactory, found: Predictions
) -> None:
    folder = tmp_path_factory.mktemp("out")
    columns = class_columns(found.class_names)
    everything = [*found.ids, *(entry.id for entry in found.quarantined)]
    n = len(found)

    rows = read_csv(found.save(folder / "a.csv"))
    assert [row["id"] for row in rows] == everything
    assert [row["name"] for row in rows] == [*found.names, *[""] * len(found.quarantined)]
    assert [row["reason"] for row in rows] == [*[""] * n, *(entry.reason for entry in found.quarantined)]
    numbers = np.array([[float(row[c]) for c in columns] for row in rows[:n]]).reshape(n, len(columns))
    np.testing.assert_array_equal(numbers, found.probabilities)
    assert [float(row["probability"]) for row in rows[:n]] == found.probabilities.max(axis=1).tolist()
    assert all(row[c] == "" for row in rows[n:] for c in (*columns, "probability", "name"))

    content = json.loads(found.save(folder / "a.json").read_text(encoding="utf-8"))
    assert content["format"] == "modalign-predictions-1"
    assert content["encoder"] == {"name": "e", "fingerprint": "f"}
    assert [p["id"] for p in content["predictions"]] == list(found.ids)
    numbers = np.array([list(p["probabilities"].values()) for p in content["predictions"]]).reshape(n, len(columns))
    np.testing.assert_array_equal(numbers, found.probabilities)
    assert content["quarantined"] == [vars(entry) for entry in found.quarantined]

    for frame in (parquet.read_table(found.save(folder / "a.parquet")).to_pandas(), found.to_frame()):
        present = [c for c in FIXED if c not in OPTIONAL or getattr(found, c) is not None]
        assert list(frame.columns) == [*present, *columns]
        assert frame["id"].tolist() == everything
        np.testing.assert_array_equal(frame[list(columns)].to_numpy()[:n], found.probabilities)
        assert frame[list(columns)].iloc[n:].isna().all(axis=None)
        assert frame["reason"].tolist()[n:] == [entry.reason for entry in found.quarantined]
        for name in set(OPTIONAL) & set(present):
            assert frame[name].tolist()[:n] == getattr(found, name).tolist()
    assert json.loads(parquet.read_schema(folder / "a.parquet").metadata[b"modalign"])["version"] == "0"


@given(found=predictions())
def test_no_spreadsheet_finds_a_formula(tmp_path_factory: pytest.TempPathFactory, found: Predictions) -> None:
    path = found.to_csv(tmp_path_factory.mktemp("out") / "a.csv")
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


@given(st.lists(text | odd, max_size=6, unique=True))
def test_a_class_never_takes_the_column_of_something_else(names: list[str]) -> None:
    columns = class_columns(names)
    assert len({*columns, *FIXED}) == len(names) + len(FIXED)
    assert all(column.endswith(name) for column, name in zip(columns, names, strict=True))


@given(found=predictions(), order=st.sampled_from(ORDERS), k=st.integers(1, 5))
def test_sorting_only_sorts(found: Predictions, order: str, k: int) -> None:
    result = found.sorted_by(order)
    row_of = {name: i for i, name in enumerate(found.ids)}
    rows = [row_of[name] for name in result.ids]
    assert sorted(rows) == list(range(len(found)))
    assert result.names == tuple(found.names[i] for i in rows)
    np.testing.assert_array_equal(result.probabilities, found.probabilities[rows])
    for name in OPTIONAL:
        if getattr(found, name) is not None:
            assert getattr(result, name).tolist() == getattr(found, name)[rows].tolist()
    best = result.probabilities.max(axis=1)
    if order == "given":
        assert rows == sorted(rows)
    elif order == "name":
        assert len([i for i in range(1, len(rows)) if result.names[i] != result.names[i - 1]]) < max(
            1, len(set(result.names))
        )
    else:
        assert (np.diff(best if order == "uncertain" else -best) >= 0).all()
    if k > len(found.class_names):
        with pytest.raises(InputError, match="number of classes"):
            result.top(k)
        return
    for row, best_of_row in zip(result.probabilities, result.top(k), strict=True):
        assert [value for _, value in best_of_row] == sorted(row.tolist(), reverse=True)[:k]
        assert all(row[found.class_names.index(name)] == value for name, value in best_of_row)


def some_predictions() -> Predictions:
    return Predictions(("a",), ("x", "y"), np.array([[0.3, 0.7]]))


@pytest.mark.parametrize(
    ("name", "words"), [("a.txt", "ends in .csv"), ("a", "ends in .csv"), ("no/such/a.csv", "to be writable")]
)
def test_what_cannot_be_written_is_refused_before_and_after(name: str, words: str, tmp_path: Path) -> None:
    for attempt in (lambda: check_output(tmp_path / name), lambda: some_predictions().save(tmp_path / name)):
        with pytest.raises(InputError, match=words):
            attempt()
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("pandas", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=r"modalign\[pandas\]"):
        some_predictions().to_frame()
    for attempt in (check_output, some_predictions().save):
        with pytest.raises(MissingExtraError, match=r"modalign\[parquet\]"):
            attempt(tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_an_unknown_order_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'uncertain'"):
        some_predictions().sorted_by("uncertian")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ma.Classifier:
    from drawings import draw

    folder = tmp_path_factory.mktemp("model")
    encoder = ma.load_encoder("tiny", cache=folder / "cache")
    return ma.adapt(draw(folder / "photos"), encoder=encoder, method="zero_shot", shots=4)


def test_probabilities_are_in_the_order_given(model: ma.Classifier, photos: Path, tmp_path: Path) -> None:
    files = [
        photos / "square" / "3.png",
        photos / "disc" / "1.png",
        photos / "square" / "0.png",
        photos / "disc" / "1.png",
    ]
    table = model.predict_proba(files)
    assert table.shape == (4, 2)
    assert table.dtype == np.float64
    for row, file in zip(table, files, strict=True):
        np.testing.assert_allclose(row, model.predict_proba(file)[0], rtol=1e-6)  # a batch of another size
    np.testing.assert_array_equal(model.predict_proba(photos), model.predict(photos).probabilities)
    np.testing.assert_array_equal(model.predict_proba(model.encoder.embed_images(photos)), model.predict_proba(photos))


def test_an_image_that_cannot_be_decoded_is_an_error_or_a_row_of_nan(model: ma.Classifier, photos: Path) -> None:
    (photos / "disc" / "broken.png").write_bytes(b"no picture")
    good = [photos / "disc" / "1.png", photos / "square" / "2.png"]
    files = [good[0], photos / "gone.png", photos / "disc" / "broken.png", good[1]]
    with pytest.raises(InputError, match=r"'gone.png' \(file not found\).*errors='nan'"):
        model.predict_proba(files)
    table = model.predict_proba(files, errors="nan")
    assert np.isnan(table).all(axis=1).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(table[[0, 3]], model.predict_proba(good))
    with pytest.raises(UnknownNameError, match="did you mean 'nan'"):
        model.predict_proba(good, errors="nans")


def test_answers_know_where_they_come_from(model: ma.Classifier, photos: Path) -> None:
    origin = model.predict(photos).origin
    assert origin["version"] == ma.__version__
    assert origin["encoder"] == {"name": "tiny", "fingerprint": model.encoder.spec.fingerprint}
    assert origin["model"] == {"method": "ZeroShot"}


def test_pandas_reads_what_is_written(model: ma.Classifier, photos: Path, tmp_path: Path) -> None:
    found = model.predict(photos, reject=0.3)
    frame = pandas.read_csv(found.to_csv(tmp_path / "a.csv"))
    np.testing.assert_array_equal(frame[["disc", "square"]].to_numpy(), found.probabilities)
    assert frame["rejected"].tolist() == found.rejected.tolist()
    assert {NONE_OF_THESE} == set(frame.loc[frame["rejected"], "name"])
