"""The page about a classifier has correct numbers about the images, and shows the hardest."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import draw
from PIL import Image
from test_page import Reader

import modalign as ma
from modalign.core.features import Quarantined
from modalign.evaluate.metrics import accuracy, confusion, per_class_accuracy
from modalign.evaluate.outcome import outcome_lines
from modalign.linalg.calibration import expected_calibration_error
from modalign.model.predictions import Evaluation
from modalign.report.evaluation import fitted_images_note, save_evaluation_page


def text_of(document: str) -> str:
    Reader(document)
    text = unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", document, flags=re.DOTALL)).replace("\u00a0", " ")
    return " ".join(text.split())


def evaluation(classes: int = 3, per_class: int = 10, seed: int = 0, names: tuple[str, ...] = ()) -> Evaluation:
    """Random answers, right in about two of three cases."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), per_class)
    logits = rng.normal(size=(len(y), classes))
    logits[np.arange(len(y)), y] += rng.normal(2, 2, len(y))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted, names = probabilities.argmax(axis=1), names or tuple(f"class {k}" for k in range(classes))
    return Evaluation(
        accuracy(y, predicted), per_class_accuracy(y, predicted, names), confusion(y, predicted, classes),
        expected_calibration_error(torch.tensor(probabilities), torch.tensor(y)),
        tuple(f"{i}.png" for i in range(len(y))), y, probabilities, names, (), (), fitted=(), validated=(),
    )  # fmt: skip


def classifier(**change: object) -> SimpleNamespace:
    """The attributes of a classifier that a page uses."""
    method = SimpleNamespace(title="CMM", get_params=lambda deep: {"steps": 3})
    spec = SimpleNamespace(name="tiny", fingerprint="f" * 64)
    given = {"method": method, "encoder": SimpleNamespace(spec=spec), "temperature": 1.0, "fitted_on": frozenset("a"),
             "record": {"calibrated": True}}  # fmt: skip
    return SimpleNamespace(**given | change)


def page(tmp_path: Path, model: object, result: Evaluation, images: object = None) -> str:
    return save_evaluation_page(model, result, tmp_path / "page.html", images).read_text(encoding="utf-8")


# -- statements -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ma.Classifier]:
    folder = tmp_path_factory.mktemp("fitted")
    photos = draw(folder / "photos")
    encoder = ma.load_encoder("tiny", cache=folder / "cache")
    return photos, ma.adapt(photos, encoder=encoder, method="zero_shot", shots=3)


def test_the_counts_of_the_page_are_those_of_the_fit(fitted: tuple[Path, ma.Classifier], tmp_path: Path) -> None:
    photos, model = fitted
    for include in (True, False):
        result = model.evaluate(photos, include_fitted=include)
        learned, validated = len(model.fitted_on - model.validated_on), len(model.validated_on)
        assert (len(result.fitted), len(result.validated)) == ((learned, validated) if include else (0, 0))
        text = text_of(page(tmp_path, model, result, photos))
        assert ("None of them is, byte for byte" in text) == (not include)
        assert ("not that on new images" in text) == include
        assert (f"{learned} were fitted on" in text) == include
        assert bool(fitted_images_note(model, result)) == include
        assert (f"{learned + validated} images that it was fitted on or validated with were left out" in text) == (
            not include
        )


def test_a_saved_model_distinguishes_fitted_from_validated_images_unless_it_is_old(
    fitted: tuple[Path, ma.Classifier], tmp_path: Path
) -> None:
    photos, model = fitted
    again = ma.load(model.save(tmp_path / "model"))
    assert again.validated_on == model.validated_on
    older = replace(model, validated_on=None)
    result = older.evaluate(photos, include_fitted=True)
    assert result.validated is None
    assert len(result.fitted) == len(model.fitted_on)
    assert "fitted on or validated with. The accuracy" in text_of(page(tmp_path, older, result))
    unlabeled = replace(model, fitted_on=frozenset())
    assert "keeps no list" in text_of(page(tmp_path, unlabeled, unlabeled.evaluate(photos)))


@pytest.mark.parametrize(
    ("record", "shown", "sentence"),
    [
        ({"calibrated": True}, {}, "(validation images); none of these images is shown here."),
        ({"calibrated": True}, {"validated": ("0.png", "1.png")}, "2 of these images are among those shown here."),
        ({"calibrated": True}, {"fitted": ("0.png",)}, "none of these images is shown here."),
        (
            {"calibrated": True, "validation": {"how": "cross-fitting over 5 folds"}},
            {"fitted": ("0.png",)},
            "(cross-fitting over 5 folds); 1 of these images is among those shown here.",
        ),
        ({"calibrated": True}, {"fitted": ("0.png",), "validated": None}, "may be among those shown here."),
        ({"calibrated": False}, {}, "No temperature was fitted"),
        ({}, {}, "Whether a temperature was fitted is not recorded."),
    ],
)
def test_calibration_has_the_origin_of_the_temperature(
    record: dict, shown: dict, sentence: str, tmp_path: Path
) -> None:
    document = page(tmp_path, classifier(record=record), replace(evaluation(), **shown))
    assert sentence in text_of(document)
    assert ("uncalibrated: off by" in document) == (not record.get("calibrated"))


def test_chance_classes_without_images_and_unusable_files_are_reported(tmp_path: Path) -> None:
    result = evaluation(4)
    empty = replace(result.per_class[0], n=0, accuracy=None, low=None, high=None)
    refused = tuple(Quarantined(f"/home/jane/photos/{i}.jpg", "no image: /home/jane/photos/x") for i in range(60))
    result = replace(result, per_class=(empty, *result.per_class[1:]), quarantined=refused, notes=("in /home/jane/p",))
    document = page(tmp_path, classifier(), result)
    text = text_of(document)
    assert "25.0 % chance level" in text.replace("chance level 25.0 %", "25.0 % chance level")
    assert document.count("chance level 25.0 %") == 2  # in the bars and in the calibration plot
    assert "Chance level is 25.0 %, the accuracy of guessing one of 4 classes." in text
    assert "1 class has no image here." in text
    assert "60 files that could not be used" in text
    assert "10 more files not listed." in text
    assert "/home" not in document


def test_mistakes_are_listed_most_frequent_first(tmp_path: Path) -> None:
    result = evaluation(5, 40)
    document = page(tmp_path, classifier(), result)
    table = document[document.index("Most frequent mistakes") :]
    shown = [int(n) for n in re.findall(r'class="number">(\d+)</td>', table.partition("</table>")[0])]
    wrong = np.sort((result.confusion - np.diag(result.confusion.diagonal())).ravel())[::-1]
    assert shown == wrong[:10].tolist()


# -- photos -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def shown(document: str) -> list[str]:
    return [a["title"] for tag, a in Reader(document).tags if tag == "img"]


def test_the_hardest_photos_are_shown_with_answer_probability_and_truth(noise: Path, tmp_path: Path) -> None:
    result = evaluation()
    document = page(tmp_path, classifier(), result, noise)
    sure, predicted = result.probabilities.max(axis=1), result.probabilities.argmax(axis=1)
    wrong = sorted(np.flatnonzero(predicted != result.labels), key=lambda i: -sure[i])[:12]
    right = sorted(np.flatnonzero(predicted == result.labels), key=lambda i: sure[i])[: 24 - len(wrong)]
    assert shown(document) == [result.ids[i] for i in (*wrong, *right)]
    alts = [a["alt"].replace("\u00a0", " ") for tag, a in Reader(document).tags if tag == "img"]
    i = wrong[0]
    assert alts[0] == f"predicted class {predicted[i]} ({100 * sure[i]:.1f} %), true class class {result.labels[i]}"
    assert document.count('class="wrong"') == len(wrong)
    text = text_of(document)
    assert f"The {len(wrong)} mistakes with the highest probability, then the {len(right)} right answers" in text
    assert len(document) < 600_000  # of 24 photos that cannot be compressed


def test_photos_that_are_gone_or_broken_are_passed_over(noise: Path, tmp_path: Path) -> None:
    result = evaluation()
    first = shown(page(tmp_path, classifier(), result, noise))[:2]
    copy = tmp_path / "photos"
    copy.mkdir()
    for path in noise.iterdir():
        if path.name != first[0]:
            (copy / path.name).write_bytes(b"broken" if path.name == first[1] else path.read_bytes())
    left = shown(page(tmp_path, classifier(), result, copy))
    assert not {*first} & {*left}
    assert len(left) == 24


def test_without_the_images_and_without_mistakes_the_page_still_stands(noise: Path, tmp_path: Path) -> None:
    result = evaluation()
    assert "<img" not in page(tmp_path, classifier(), result)
    perfect = replace(result, probabilities=np.eye(3)[result.labels] * 0.9 + 0.1 / 3)
    text = text_of(page(tmp_path, classifier(), perfect, noise))
    assert "The 24 right answers with the lowest" in text
    assert "mistakes with" not in text


# -- size and secrecy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [100, 1000])
def test_pages_of_many_classes_stay_small(classes: int, tmp_path: Path) -> None:
    document = page(tmp_path, classifier(), evaluation(classes, 8))
    assert len(document.encode()) < 500_000
    assert f"Accuracy of all {classes:,} classes" in document


def test_no_folder_of_the_maker_is_on_the_page(tmp_path: Path) -> None:
    spec = SimpleNamespace(name=f"{tmp_path}/clip-large", fingerprint="f" * 64)
    method = SimpleNamespace(title="DAM", get_params=lambda deep: {"structures": "/home/jane/data/structures.json"})
    document = page(tmp_path, classifier(encoder=SimpleNamespace(spec=spec), method=method), evaluation())
    assert str(tmp_path) not in document
    assert "/home" not in document
    assert "clip-large (ffffffffffff)" in document
    assert "structures.json" in document


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "\x1b[31m\x00\u202e\ud800\ufffe", "日本語 שלום")
    document = page(tmp_path, classifier(), evaluation(names=names))
    assert "<script>" not in document
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]", document)
    assert "日本語 שלום" in document


def test_results_of_the_fit_are_reported_as_on_the_terminal(fitted: tuple[Path, ma.Classifier], tmp_path: Path) -> None:
    photos, model = fitted
    outcome = model.record["outcome"]
    text = text_of(page(tmp_path, model, model.evaluate(photos)))
    told = text[text.index("When the model was fitted") :]
    for line in (*outcome_lines(outcome), *outcome["notes"], *model.record["notes"]):
        assert line[1:].rstrip(".") in told
    silent = replace(model, record={k: v for k, v in model.record.items() if k not in ("outcome", "notes")})
    assert "When the model was fitted" not in text_of(page(tmp_path, silent, model.evaluate(photos)))
