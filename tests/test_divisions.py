"""One division serves fit, compare and evaluate: none of them learns from an image that the source marks as test."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from drawings import draw
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError
from modalign.core.features import Features, concatenate
from modalign.data.copies import content_hash
from modalign.data.items import load_items
from modalign.evaluate.comparison.comparison_inputs import load_inputs

PARTS = {"train": range(8), "val": range(8, 12), "test": range(12, 18)}
SHAPES = ("disc", "square")
KINDS = ("folders", "folders by class", "zip", "tar", "table", "table of folders", "split file", "given split file")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"), per_class=18)


def make(root: Path, drawn: Path, kind: str, parts: tuple[str, ...] = ("train", "val", "test")) -> tuple:
    """A source of some kind, options to read it with, and file name with folder → part."""
    part_of = {f"{shape}/{i}.png": part for part in parts for shape in SHAPES for i in PARTS[part]}
    folders = {"folders": "{part}/", "zip": "{part}/", "tar": "{part}/", "table of folders": "{part}/"}.get(kind, "")
    place = {}
    for name, part in part_of.items():
        shape, file = name.split("/")
        place[name] = f"{shape}/{part}/{file}" if kind == "folders by class" else folders.format(part=part) + name
        (root / "x" / place[name]).parent.mkdir(parents=True, exist_ok=True)
        (root / "x" / place[name]).write_bytes((drawn / name).read_bytes())
    if kind == "zip":
        with zipfile.ZipFile(root / "x.zip", "w") as archive:
            for name in place.values():
                archive.write(root / "x" / name, name)
    if kind == "tar":
        with tarfile.open(root / "x.tar", "w") as archive:
            archive.add(root / "x", "x")
    if kind.startswith("table"):
        rows = [f"{place[n]},{n.split('/')[0]}" + (f",{p}" if kind == "table" else "") for n, p in part_of.items()]
        head = "path,label,split" if kind == "table" else "path,label"
        (root / "x/list.csv").write_text("\n".join([head, *rows]))
    if "split file" in kind:
        lists = {
            p: [[n, SHAPES.index(n.split("/")[0]), n.split("/")[0]] for n in part_of if part_of[n] == p] for p in PARTS
        }
        (root / ("x/split_mine.json" if kind == "split file" else "given.json")).write_text(json.dumps(lists))
    source = {"zip": root / "x.zip", "tar": root / "x.tar"}.get(kind, root / "x")
    source = root / "x/list.csv" if kind.startswith("table") else source
    return source, {"split": root / "given.json"} if kind == "given split file" else {}, part_of


def drawing(name: str) -> str:
    """The drawing that an image is, whatever its source calls it."""
    folders = [part for part in name.split("/") if part in SHAPES]
    return f"{folders[0]}/{name.rpartition('/')[2]}"


class Seen:
    """The names of all images that an encoder is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoder) -> None:
        self.names: set[str] = set()
        embed = encoder.embed_images

        def spy(images, **options):
            features = embed(images, **options)
            self.names |= {drawing(name) for name in features.ids}
            return features

        monkeypatch.setattr(encoder, "embed_images", spy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shots", [2, None])
def test_fit_and_evaluate_keep_to_the_parts(tmp_path: Path, drawn, encoder, monkeypatch, kind: str, shots) -> None:
    source, options, part_of = make(tmp_path, drawn, kind)
    seen = Seen(monkeypatch, encoder)
    model = ma.adapt(source, encoder=encoder, method="linear_probe", shots=shots, C=1.0, **options)
    assert {part_of[name] for name in seen.names} == {"train", "val"}
    assert model.record["images"]["train"] == 2 * (shots or 8)
    assert shots or model.record["images"]["validation"] == 8, "all of the validation part, and nothing else"
    items = load_items(source, **options)
    tested = {name for name in items.ids if part_of[drawing(name)] == "test"}
    assert not model.fitted_on & {content_hash(items, items.ids.index(name)) for name in tested}
    result = model.evaluate(source, **options)
    assert set(result.ids) == tested
    assert not result.left_out
    assert any("tested on the 12 of 36 images" in note for note in result.notes)
    assert not any("divided by" in note for note in result.notes), "one note on the parts"


@pytest.mark.parametrize("kind", KINDS)
def test_compare_keeps_to_the_same_parts(tmp_path: Path, drawn, encoder, kind: str) -> None:
    source, options, part_of = make(tmp_path, drawn, kind)
    given = load_inputs(source, encoder=encoder, **options)
    for part in PARTS:
        indices = getattr(given.official, "validation" if part == "val" else part)
        assert {drawing(given.features.ids[i]) for i in indices} == {n for n, p in part_of.items() if p == part}


@pytest.mark.parametrize("kind", ["folders", "split file"])
def test_without_labels_the_test_part_is_not_used(tmp_path: Path, drawn, encoder, monkeypatch, kind: str) -> None:
    source, options, part_of = make(tmp_path, drawn, kind)
    seen = Seen(monkeypatch, encoder)
    ma.adapt(source, encoder=encoder, method="zero_shot", unlabeled=True, classes=SHAPES, **options)
    assert {part_of[name] for name in seen.names} == {"train"}


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val")])
def test_missing_parts(tmp_path: Path, drawn, encoder, monkeypatch, parts: tuple[str, ...]) -> None:
    source, _, part_of = make(tmp_path, drawn, "folders", parts)
    seen = Seen(monkeypatch, encoder)
    model = ma.adapt(source, encoder=encoder, method="linear_probe", C=1.0)
    used = {name for name in part_of if part_of[name] != "test"}
    assert seen.names == used
    assert model.record["images"]["train"] == 16
    given = load_inputs(source, encoder=encoder)
    tested = {part_of[drawing(given.features.ids[i])] for i in given.official.test}
    assert tested == {"test" if "test" in parts else "train"}, "validation images are never tested on"
    assert {part_of[drawing(given.features.ids[i])] for i in given.official.validation} <= {"val"}


def test_nothing_to_learn_from_is_refused_before_work(tmp_path: Path, drawn, encoder, monkeypatch) -> None:
    source, _, _ = make(tmp_path, drawn, "folders", ("test",))
    seen = Seen(monkeypatch, encoder)
    with pytest.raises(InputError, match=r"none of the 12 images is marked as that by the folders 'test' \(testing\);"):
        ma.adapt(source, encoder=encoder)
    assert not seen.names
    model = ma.adapt(source / "test", encoder=encoder, method="zero_shot", shots=1)
    assert model.record["images"]["train"], "who gives the folder alone may learn from it"


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_features_keep_the_parts(tmp_path: Path, drawn, encoder, kind: str) -> None:
    source, _, part_of = make(tmp_path, drawn, kind)
    features = encoder.embed_images(source)
    order = np.random.default_rng(0).permutation(len(features))
    concatenate([features.select(order[:9]), features.select(order[9:])]).save(tmp_path / "features.npz")
    given = load_inputs(tmp_path / "features.npz", text=False)
    tested = [given.features.ids[i] for i in given.official.test]
    assert {drawing(name) for name in tested} == {name for name, part in part_of.items() if part == "test"}
    with np.load(tmp_path / "features.npz") as file:
        arrays = dict(file)
    for wrong in (["train"], ["trian"] * len(features)):
        np.savez(tmp_path / "other.npz", **arrays | {"parts": np.array(wrong)})
        with pytest.raises(InputError, match="per image as parts"):
            Features.load(tmp_path / "other.npz")


def test_features_from_elsewhere_are_divided_by_their_names(tmp_path: Path, drawn, encoder) -> None:
    source, options, part_of = make(tmp_path, drawn, "given split file")
    embedded = encoder.embed_images(source)
    folders = tuple(f"{part_of[name]}/{name}" for name in embedded.ids)
    for ids, split in ((embedded.ids, options["split"]), (folders, None)):
        features = Features(embedded.vectors, ids, embedded.labels, embedded.class_names)
        given = load_inputs(features, text=False, split=split)
        assert {part_of[drawing(ids[i])] for i in given.official.test} == {"test"}
        assert len(given.official.test) == 12


def test_test_images_that_are_also_trained_on_are_reported(tmp_path: Path, drawn, encoder) -> None:
    source, _, _ = make(tmp_path, drawn, "folders")
    (source / "train/disc/copy.png").write_bytes((source / "test/disc/12.png").read_bytes())
    model = ma.adapt(source, encoder=encoder, method="zero_shot", shots=1)
    assert any("1 image marked test have the bytes of one marked train" in note for note in model.record["notes"])


def test_a_folder_of_data_sets_is_refused_by_all(tmp_path: Path, drawn, encoder) -> None:
    for name in ("pets", "food"):
        make(tmp_path / name, drawn, "folders")
        (tmp_path / name / "x").rename(tmp_path / f"{name}-x")
        (tmp_path / name).rmdir()
        (tmp_path / f"{name}-x").rename(tmp_path / name)
    model = ma.adapt(tmp_path / "pets", encoder=encoder, method="zero_shot", shots=1)
    for use in (
        lambda: ma.adapt(tmp_path, encoder=encoder),
        lambda: load_inputs(tmp_path, encoder=encoder),
        lambda: model.evaluate(tmp_path),
    ):
        with pytest.raises(InputError, match="a folder of data sets: 'food', 'pets'; give one of them"):
            use()
    assert len(model.predict(tmp_path)) == 72


def test_images_of_two_classes_teach_nothing(tmp_path: Path, drawn, encoder, monkeypatch) -> None:
    root = draw(tmp_path / "x", per_class=10)
    for i in range(4):
        (root / "square" / f"copy-{i}.png").write_bytes((root / "disc" / f"{i}.png").read_bytes())
    seen = Seen(monkeypatch, encoder)
    model = ma.adapt(root, encoder=encoder, method="linear_probe", C=1.0)
    wrong = {f"disc/{i}.png" for i in range(4)} | {f"square/copy-{i}.png" for i in range(4)}
    assert not seen.names & wrong
    assert {q["id"] for q in model.record["quarantined"]} == wrong
    assert any("carry two labels: 'disc/0.png' (disc)" in note for note in model.record["notes"])
    given = load_inputs(root, encoder=encoder)
    assert not set(given.features.ids) & wrong
    untouched = ma.adapt(drawn, encoder=encoder, method="zero_shot", shots=1)
    assert not set(untouched.evaluate(root).ids) & wrong
    assert np.isin(sorted(wrong), [q.id for q in untouched.evaluate(root).quarantined]).all()


@pytest.mark.usefixtures("own_cache")
def test_the_command_line_takes_a_split_file(tmp_path: Path, drawn) -> None:
    source, options, _ = make(tmp_path, drawn, "given split file")
    lists = ["--split", options["split"]]
    fitted = run("fit", source, "-o", tmp_path / "model", "-m", "zero_shot", *lists, "--json")
    assert fitted["record"]["images"] == {"train": 16, "validation": 8}
    tested = run("evaluate", tmp_path / "model", source, *lists, "--json", "--confusion", tmp_path / "c.png")
    assert tested["n"] == 12
    assert any("given.json" in note for note in tested["notes"])
    compared = run("compare", source, *lists, "--methods", "zero_shot", "--shots", "0", "--no-ablations", "--json")
    assert compared["record"]["images"]["test"] == 12


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)
