"""Every figure of the papers is on a page, with a size, its data and correct statements about the model."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.parameter_sweep import sweep_parameter
from modalign.methods import method_class
from modalign.model.classifier import Classifier
from modalign.report.papers.figures_page import save_figures_page, save_sweep_page
from modalign.report.papers.fit_curves import pseudo_label_curve
from modalign.report.papers.model_figures import FigureGroup, Shown, _pseudo_labels, model_figures
from modalign.testing import few_shot_problem

SWEPT = "gda.discriminant_weight=0.1,0.9"
PAPERS = Path(ma.__file__).parent / "report" / "papers"


def test_every_figure_has_a_caller() -> None:
    files = {path: path.read_text("utf-8") for path in Path(ma.__file__).parent.rglob("*.py")}
    drawn = [
        (path, node.name)
        for path in PAPERS.glob("*.py")
        for node in ast.parse(files[path]).body
        if isinstance(node, ast.FunctionDef) and node.returns is not None and "Picture" in ast.unparse(node.returns)
    ]
    assert len(drawn) >= 10
    every = "\n".join(files.values())
    for path, name in drawn:
        assert re.search(rf"(?<!def )\b{name}\(", every), f"{path.name}: {name}"


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(60))


def adapted(items: Items, method: object, **options: object) -> Classifier:
    return ma.adapt(items, encoder=load_encoder("tiny", cache=False), method=method, validation="none", **options)


@pytest.fixture(scope="module")
def cmm(digits: Items) -> Classifier:
    method = method_class("cmm")(max_steps=32, random_state=0)
    return adapted(digits.select(range(40)), method, mirror=False, random_state=0)


def by_heading(groups: list[FigureGroup]) -> dict[str, FigureGroup]:
    return {group.heading: group for group in groups}


def test_figures_of_a_map_have_its_correct_values(cmm: Classifier, digits: Items, tmp_path: Path) -> None:
    images = digits.select(range(20, 60))
    found = by_heading(model_figures(cmm, images))
    assert list(found) == [
        "Similarity of images and class texts", "Matching matrix", "Images and class vectors in a plane",
        "Modality gap", "Errors compared with zero-shot", "Choice of settings", "Training",
    ]  # fmt: skip
    probabilities = cmm.predict_proba(images)
    labels = np.array([cmm.class_names.index(images.class_names[k]) for k in images.labels])
    matrix = found["Matching matrix"].pictures[0].data["matrix"]
    np.testing.assert_allclose(matrix[3], probabilities[labels == 3].mean(axis=0), atol=1e-6)
    counts = found["Errors compared with zero-shot"].pictures[0].data["counts"]
    assert counts[0] + counts[1] == (probabilities.argmax(axis=1) == labels).sum()
    vectors = cmm.encoder.embed_images(images).vectors
    after = found["Similarity of images and class texts"].pictures[1].alt
    own = (cmm.method.transform(vectors) * cmm.method.prototypes_.numpy()[labels]).sum(axis=1).mean()
    assert f"matching {own:.3f}" in after
    beta = found["Choice of settings"].pictures[0].data["accuracy"]
    assert beta[:, 0].tolist() == cmm.method.fusion_curve_["zero_shot_weight"]
    assert len(found["Images and class vectors in a plane"].pictures[1].data["texts"]) == 10

    of_fit = {"Choice of settings", "Training"}  # about no image of the 40, of which 20 were in the fit
    assert {heading: (group.images, group.fitted) for heading, group in found.items()} == {
        heading: (0, 0) if heading in of_fit else (40, 20) for heading in found
    }
    note = "The model was fitted on or validated with 20 of the 40 images"
    page = save_figures_page(cmm, list(found.values()), tmp_path / "page.html").read_text()
    assert page.count(note) == 1
    pictures = [picture for group in found.values() for picture in group.pictures]
    assert len({picture.title for picture in pictures}) == len(pictures)
    sizes = re.findall(r'<svg viewBox="0 0 [\d.]+ [\d.]+" width="([\d.]+)" height="([\d.]+)"', page)
    assert len(sizes) == len(pictures)
    assert min(float(side) for size in sizes for side in size) > 50
    for group in found.values():
        numbers = json.loads(json.dumps(group.as_dict()))
        assert all(figure["data"] for figure in numbers["figures"])
        assert [text[1:].startswith(note[1:]) for text in numbers["notes"]] == [True] * (group.images > 0)


def test_of_two_encoders_each_has_its_map_and_the_text_is_compared_with_those_of_its_encoder(digits: Items) -> None:
    joined, tiny = load_encoder("tiny-vision+tiny", cache=False), load_encoder("tiny", cache=False)
    unlabeled = digits.select(range(40)).unlabeled()
    method = method_class("gpua")(random_state=0)
    model = ma.adapt(unlabeled, encoder=joined, method=method, validation="none", mirror=False)
    shown = Shown.of(model, digits.select(range(40, 60)))
    assert shown.frozen is not None
    np.testing.assert_allclose(shown.frozen.images, tiny.embed_images(shown.items).vectors, atol=1e-5)
    groups = by_heading(model_figures(model, shown.items))
    titles = [picture.title for picture in groups["Images and class vectors in a plane"].pictures]
    assert [title.rpartition(", ")[2] for title in titles] == ["tiny", "tiny-vision", "after the fit"]
    assert {"Errors compared with zero-shot", "Modality gap"} <= groups.keys()


def test_figures_of_self_training_mark_its_pseudo_labels(digits: Items) -> None:
    images = digits.select(range(10))
    method = method_class("fair")(epochs=2, crops=4, keep=2, batch_size=10, augmentation="center", random_state=0)
    model = adapted(images, method)
    labels = model.method.pseudo_labels_["labels"].numpy()
    assert labels.shape == (2, 10)
    assert labels.min() >= 0
    assert np.bincount(labels[-1], minlength=10).tolist() == model.method.diagnosis_["pseudo_labels"]
    found = by_heading(model_figures(model, images.select(range(9, -1, -1))))  # in another order
    truth = np.array([model.class_names.index(images.class_names[k]) for k in images.labels])
    curve = found["Pseudo-labels"].pictures[0].data["pseudo-labels"]
    np.testing.assert_allclose(curve[:, 1], (labels == truth).mean(axis=1))
    weights = found["Crop weights"].pictures[0]
    assert len(weights.data) == 5  # a grid, two ways, before and after
    assert "Pseudo-labels by epoch" in [picture.title for picture in found["Training"].pictures]
    assert _pseudo_labels(Shown.of(model, digits.select(range(20, 30))), 0) is None  # not the images of the fit


def test_epochs_without_pseudo_labels_are_left_out() -> None:
    labels = np.array([[0, 1, 1], [-1, -1, -1], [0, 1, 2]])
    curve = pseudo_label_curve(labels, np.array([0, 1, 2])).data["pseudo-labels"]
    np.testing.assert_allclose(curve[:, :2], [[1, 2 / 3], [3, 1]])


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    *_, X, y, _ = few_shot_problem()
    return Features(X, labels=y, class_names=list("abcde")).save(tmp_path_factory.mktemp("sweep") / "letters.npz")


def test_a_sweep_is_a_benchmark_per_value(vectors: Path, tmp_path: Path) -> None:
    found = sweep_parameter(vectors, "gda", "discriminant_weight", [0.9, 0.1], shots=[2, 4], seeds=2)
    once = run_benchmark(
        vectors, methods=["gda"], shots=[4], seeds=2, hyperparameters={"gda": {"discriminant_weight": 0.9}}
    )
    (row,) = (row for value, row, _ in found.rows if value == 0.9 and row.shots == 4)
    assert row.accuracy == once.rows[0].accuracy
    assert [list(curve) for curve in found.curves.values()] == [[0.1, 0.9]] * 2
    page = save_sweep_page(found, tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2 + bool(found.megabytes)  # accuracy, time and, where it is known, memory
    with pytest.raises(InputError, match="two different values"):
        sweep_parameter(vectors, "gda", "discriminant_weight", [0.5, 0.5])
    close = sweep_parameter(vectors, "gda", "discriminant_weight", [0.50000001, 0.50000002], shots=[2], seeds=1)
    assert [row[0] for row in close.table[1]] == ["0.50000001", "0.50000002"]


def test_a_sweep_of_two_has_a_curve_per_value_of_the_second(vectors: Path, tmp_path: Path) -> None:
    found = sweep_parameter(
        vectors, "gda", "discriminant_weight", [0.1, 0.9], by=("logit_scale", [50, 20]), shots=[2], seeds=1
    )
    assert [(row.value, row.other) for row in found.rows] == [(0.1, 20), (0.1, 50), (0.9, 20), (0.9, 50)]
    for curves in (found.curves, found.seconds):
        shown = {name: list(curve) for name, curve in curves.items()}
        assert shown == {"logit_scale 20": [0.1, 0.9], "logit_scale 50": [0.1, 0.9]}
    settings = {"gda": {"discriminant_weight": 0.9, "logit_scale": 50}}
    once = run_benchmark(vectors, methods=["gda"], shots=[2], seeds=1, hyperparameters=settings)
    assert found.rows[3].found.accuracy == once.rows[0].accuracy
    assert found.table[0][:2] == ["discriminant_weight", "logit_scale"]
    assert found.as_dict()["rows"][1]["other"] == 50
    assert "2 values of logit_scale" in save_sweep_page(found, tmp_path / "page.html").read_text()
    refused = (("discriminant_weight", [0.1, 0.2]), "got it twice"), (("logit_scale", [1.0]), "two different values")
    for by, said in refused:
        with pytest.raises(InputError, match=said):
            sweep_parameter(vectors, "gda", "discriminant_weight", [0.1, 0.9], by=by, shots=[2], seeds=1)


def test_the_commands_write_pages_and_json(cmm: Classifier, digits: Items, vectors: Path, tmp_path: Path) -> None:
    for i in range(40, 60):
        file = tmp_path / "photos" / digits.class_names[digits.labels[i]] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(digits.read(i))
    page = tmp_path / "figures.html"
    result = CliRunner().invoke(
        app, ["figures", str(cmm.save(tmp_path / "model")), str(tmp_path / "photos"), "-o", str(page), "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found[0]["heading"] == "Similarity of images and class texts"
    assert {(group["fitted"], len(group["notes"])) for group in found} == {(0, 0)}
    assert "<svg" in page.read_text()
    result = CliRunner().invoke(
        app, ["sweep", str(vectors), "gda.discriminant_weight=0.1,0.9", "--shots", "2", "--seeds", "1"]
    )
    assert result.exit_code == 0, result.output
    for wrong in ("gda=1,2", "gda.discriminant_weight=", "cmm.init=linear,zero"):
        assert isinstance(CliRunner().invoke(app, ["sweep", str(vectors), wrong]).exception, InputError)
