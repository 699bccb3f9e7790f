"""Explanations: every number is a part of the score that it explains, and no map is shown that fails its test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import modalign as ma
from modalign.cli import app
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.linalg.similarity import unit
from modalign.methods import method_class
from modalign.model.classifier import Classifier
from modalign.model.explaining import DeletionTest, deletion
from modalign.model.explaining.patch_scores import PatchScorer, blanked, prepared_images

TEMPLATES = ["a photo of the number {}.", "the number {} in white."]
PASSED = DeletionTest(9, 0.9, 0.4, 0.8, 0.4, 0.3, 0.5, 0)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(60))


def adapted(items: Items, method: str) -> Classifier:
    return ma.adapt(
        items, encoder=load_encoder("tiny", cache=False), method=method, templates=TEMPLATES, validation="none",
        mirror=False, random_state=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tip(digits: Items) -> Classifier:
    few = [int(np.flatnonzero(digits.labels == k)[0]) for k in range(8)]
    return adapted(digits.select(few), "tip_adapter")


@pytest.fixture(scope="module")
def zero_shot(digits: Items) -> Classifier:
    return adapted(digits.select(range(20)), "zero_shot")


def vector(model: Classifier, image: Items) -> torch.Tensor:
    return unit(torch.from_numpy(model.encoder.embed_images(image).vectors))


def test_labeled_images_and_text_add_up_to_the_score(tip: Classifier, digits: Items) -> None:
    image = digits.select([40])
    found = tip.explain(image, labeled=digits.select(range(40)))
    x = vector(tip, image)
    expected = tip.method.logit_scale_ * (x @ tip.method.prototypes_.T)[0].numpy()
    for neighbor in found.neighbors:  # all 8 keys
        expected[tip.class_names.index(neighbor.class_name)] += neighbor.weight
    np.testing.assert_allclose(tip.method.scores(x)[0].numpy(), expected, rtol=1e-5)
    for neighbor in found.neighbors:  # a key is named after the image that it is the vector of
        own = digits.select([digits.ids.index(neighbor.id)])
        assert float((vector(tip, own) @ tip.method.keys_.T).max()) > 1 - 1e-5
        assert digits.class_names[own.labels[0]] == neighbor.class_name


def test_a_cache_without_its_images_names_its_classes(tip: Classifier, digits: Items) -> None:
    found = tip.explain(digits.select([40]))
    assert len(found.neighbors) == 8
    assert {n.picture for n in found.neighbors} == {None}
    assert found.neighbors[0].id.endswith("of the cache")
    last = found.neighbors[-1].class_name
    assert tip.explain(digits.select([40]), label=last).neighbors == found.neighbors[-1:]


def test_neighbors_of_other_methods_are_the_nearest_by_cosine(zero_shot: Classifier, digits: Items) -> None:
    labeled = digits.select(range(40))
    assert zero_shot.explain(digits.select([41])).neighbors == ()
    found = zero_shot.explain(digits.select([41]), labeled=labeled).neighbors
    cosines = (vector(zero_shot, labeled) @ vector(zero_shot, digits.select([41])).T)[:, 0].numpy()
    np.testing.assert_allclose([n.cosine for n in found], np.sort(cosines)[::-1][:8], atol=1e-6)
    assert found[0].id == labeled.ids[int(cosines.argmax())]
    assert found[0].weight is None
    k = int(labeled.labels[int(cosines.argmin())])  # of a named class, the nearest are its own
    name, own = digits.class_names[k], np.sort(cosines[labeled.labels == k])[::-1][:8]
    explained = zero_shot.explain(digits.select([41]), labeled=labeled, label=name)
    np.testing.assert_allclose([n.cosine for n in explained.neighbors], own, atol=1e-6)
    assert {n.class_name for n in explained.neighbors} == {name}
    assert f"The nearest labeled images are those of the class '{name}'." in explained.notes
    others = labeled.select(np.flatnonzero(labeled.labels != k))
    nothing = zero_shot.explain(digits.select([41]), labeled=others, label=name)
    assert nothing.neighbors == ()
    assert f"No labeled image is of the class '{name}'." in nothing.notes
    with pytest.raises(InputError, match="without a label"):
        zero_shot.explain(digits.select([41]), labeled=labeled.unlabeled())


def test_the_parts_of_sentences_add_up_to_the_score(zero_shot: Classifier, digits: Items) -> None:
    found = zero_shot.explain(digits.select([41])).sentences
    x = vector(zero_shot, digits.select([41]))
    score = zero_shot.method.scores(x)[0] / zero_shot.method.logit_scale_
    best = found[0].class_name
    own = [s for s in found if s.class_name == best]
    vectors = torch.from_numpy(zero_shot.encoder.embed_texts([s.sentence for s in own]).vectors)
    np.testing.assert_allclose([s.cosine for s in own], (vectors @ x[0]).numpy(), atol=1e-5)
    length = vectors.mean(dim=0).norm()
    parts = [s.cosine / (len(TEMPLATES) * float(length)) for s in own]
    np.testing.assert_allclose(sum(parts), float(score[zero_shot.class_names.index(best)]), atol=1e-5)
    np.testing.assert_allclose([s.share for s in own], np.array(parts) / sum(parts), atol=1e-5)


def test_classes_may_have_different_numbers_of_sentences(zero_shot: Classifier, digits: Items) -> None:
    uneven = [["the number " + name] * (1 + k % 2) for k, name in enumerate(zero_shot.class_names)]
    model = replace(zero_shot, record={**zero_shot.record, "sentences": uneven})
    found = model.explain(digits.select([41])).sentences
    for sentence in found:
        assert sentence.share == pytest.approx(1 / len(uneven[model.class_names.index(sentence.class_name)]))
    assert model.explain(digits.select([41])).notes[-1].startswith("The method keeps no labeled images")
    assert replace(model, record={}).explain(digits.select([41])).sentences == ()


@pytest.mark.parametrize("name", ["lfa", "cmm"])
def test_sentences_are_compared_where_the_method_compares_them(name: str, digits: Items) -> None:
    options = {"lfa": {"steps": 4}, "cmm": {"steps": 4, "zero_shot_weight": 0.0}}[name]
    model = ma.adapt(
        digits.select(range(30)), encoder=load_encoder("tiny", cache=False), method=method_class(name)(**options),
        templates=TEMPLATES[:1], validation="none", mirror=False, random_state=0,
    )  # fmt: skip
    found = model.explain(digits.select([41])).sentences
    scores = model.method.scores(vector(model, digits.select([41])))[0] / model.method.logit_scale_
    of_text = {s.class_name: s.cosine for s in found}
    if name == "lfa":  # its prototypes are the texts
        for own, cosine in of_text.items():
            assert abs(cosine - float(scores[model.class_names.index(own)])) < 1e-5
    else:  # its prototypes have moved away from them, but not far
        assert found[0].class_name == model.class_names[int(scores.argmax())]
    assert all(s.share == 1 for s in found)


def test_a_patch_is_scored_like_an_image(zero_shot: Classifier, digits: Items) -> None:
    prepared = prepared_images(digits.select([3, 4]), zero_shot.encoder)
    found = PatchScorer(zero_shot).of_patches(prepared)
    assert found.shape == (2, 10, 4, 4)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-9)
    probabilities = PatchScorer(zero_shot).probabilities(prepared)
    np.testing.assert_allclose(probabilities, zero_shot.predict_proba(digits.select([3, 4])), atol=1e-6)


def test_patches_of_a_network_without_text_are_its_tokens(digits: Items) -> None:
    encoder = load_encoder("tiny-vision", cache=False)
    model = ma.adapt(
        digits.select(range(20)), encoder=encoder, method="gda", validation="none", mirror=False, random_state=0
    )
    tokens = encoder.embed_images(digits.select([41]), tokens=True).tokens[0]
    expected = torch.softmax(torch.from_numpy(model.method.scores(tokens)).double() / model.temperature, dim=1)
    found = PatchScorer(model).of_patches(prepared_images(digits.select([41]), encoder))[0]
    np.testing.assert_allclose(np.exp(found).reshape(10, -1).T, expected.numpy(), atol=1e-6)


def test_blanked_patches_have_the_mean_color_and_others_are_kept() -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 12, 3)).astype(np.uint8)
    found = blanked(image, np.array([0, 5]), 3)
    changed = (found != image).any(axis=2)
    expected = np.zeros((10, 12), dtype=bool)
    expected[0:3, 0:4] = expected[3:7, 8:12] = True  # edges at round(10 / 3 · i)
    assert not (changed & ~expected).any()
    assert (found[expected] == image.reshape(-1, 3).mean(axis=0).round()).all()


class Planted:
    """Class 0 has probability 0.9 while the first patch is as it was; ``best`` is the patch that is marked."""

    why_not, best = "", 0

    def __init__(self, model: Classifier) -> None:
        self.whole: dict[int, np.ndarray] = {}

    def probabilities(self, prepared: list[np.ndarray]) -> np.ndarray:
        for i, image in enumerate(prepared):
            self.whole.setdefault(i, image)
        kept = [np.array_equal(image[:8, :8], self.whole[i][:8, :8]) for i, image in enumerate(prepared)]
        first = np.where(kept, 0.9, 0.1)
        return np.stack([first, 1 - first], axis=1)

    def of_patches(self, prepared: list[np.ndarray]) -> np.ndarray:
        marks = np.zeros((len(prepared), 2, 4, 4))
        marks[:, 0, self.best // 4, self.best % 4] = 1
        marks[:, 0, 3] += 0.1  # the others that are blanked are in the last row
        return marks


def test_the_deletion_test_finds_the_patch_that_decides(
    zero_shot: Classifier, digits: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "PatchScorer", Planted)
    images = digits.select(range(20, 60))
    found = zero_shot.deletion_test(images, random_state=3)
    assert found.whole == pytest.approx(0.9)
    assert found.marked < 0.2
    assert found.random == pytest.approx(0.9 - 0.8 * 3 / 16, abs=0.1)  # 3 of 16 patches at random
    assert found.passed
    assert found.difference == pytest.approx(found.random - found.marked)
    assert found == zero_shot.deletion_test(images, random_state=3)
    assert found != zero_shot.deletion_test(images, random_state=4)
    monkeypatch.setattr(Planted, "best", 13)
    other = zero_shot.deletion_test(images, random_state=3)
    assert not other.passed
    assert other.marked == pytest.approx(0.9)
    assert "No reliable patch map" in other.sentence


def test_what_cannot_be_tested_is_reported(zero_shot: Classifier, digits: Items) -> None:
    with pytest.raises(InputError, match="all of which it was fitted on"):
        zero_shot.deletion_test(digits.select(range(3)))
    with pytest.raises(InputError, match="limit"):
        zero_shot.deletion_test(digits, limit=0)
    with pytest.raises(InputError, match="one image"):
        zero_shot.explain(digits.select([3, 4]))
    with pytest.raises(InputError, match="did you mean 'three'"):
        zero_shot.explain(digits.select([41]), label="thre")
    lora = ma.adapt(
        digits.select(range(10)), encoder=load_encoder("tiny", cache=False), method=method_class("clip_lora")(epochs=1),
        validation="none",
    )  # fmt: skip
    test = lora.deletion_test(digits.select([30]))
    assert not test.passed
    assert "compares no patches" in test.sentence
    assert json.loads(json.dumps(test.as_dict(), allow_nan=False))["difference"] is None


def test_maps_are_shown_only_where_the_test_was_passed(zero_shot: Classifier, digits: Items, tmp_path: Path) -> None:
    image = digits.select([41])
    failed = DeletionTest(9, 0.9, 0.8, 0.8, 0.0, -0.1, 0.1, 0)
    for test, expected in ((None, 0), (failed, 0), (PASSED, 3)):
        found = zero_shot.explain(image, check=test, label="six")
        assert len(found.maps) == expected
        assert found._repr_html_().count("<img") == 1 + expected
        page = found.save(tmp_path / "page.html").read_text()
        assert page.count('src="data:image') == 1 + expected
        assert ("deletion test" in found.notes[0]) or found.notes[0] == test.sentence
    assert next(iter(found.maps)) == "six"
    assert "give images that the model was not fitted on as check=…" in zero_shot.explain(image).notes[0]
    assert max(values.max() for values in found.overlays().values()) <= 255
    assert "3 patch maps" in repr(found)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_an_explained_class_that_is_not_the_answer_is_told_from_it(
    zero_shot: Classifier, digits: Items, tmp_path: Path
) -> None:
    image = digits.select([41])
    last = zero_shot.class_names[int(zero_shot.predict_proba(image)[0].argmin())]
    found, answer = zero_shot.explain(image, label=last.upper()), zero_shot.predict(image)[0].name
    assert found.subject == f"explained as {last}; the answer is {answer}"
    assert last not in dict(found.top)
    assert found.listed == (*found.top, (last, found.probability))
    page = found.save(tmp_path / "page.html").read_text()
    assert found.subject in page
    assert page.index(f">{last}<", page.index("<table")) > 0
    assert zero_shot.explain(image).subject == answer
    assert zero_shot.explain(image).listed == zero_shot.explain(image).top


def test_an_image_of_the_fit_is_noted_and_is_not_its_own_neighbor(zero_shot: Classifier, digits: Items) -> None:
    found = zero_shot.explain(digits.select([3]), labeled=digits.select(range(10)))
    assert digits.ids[3] not in [n.id for n in found.neighbors]
    assert any("fitted on this image" in note for note in found.notes)
    assert len(repr(found.neighbors)) < 1000


def test_the_command_explains_what_it_can_read(zero_shot: Classifier, digits: Items, tmp_path: Path) -> None:
    folder = zero_shot.save(tmp_path / "model")
    files = [tmp_path / f"{name}.png" for name in ("a", "bad", "c")]
    for file, content in zip(files, (digits.read(41), b"no image", digits.read(42)), strict=True):
        file.write_bytes(content)
    result = CliRunner().invoke(app, ["explain", str(folder), *map(str, files), "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert "a.png: " in result.output
    assert "first 2 of 3 images" in result.output
    assert "bad.png: " in result.output
    assert CliRunner().invoke(app, ["explain", str(folder), str(files[1])]).exit_code != 0


def test_the_command_writes_a_page_and_json(zero_shot: Classifier, digits: Items, tmp_path: Path) -> None:
    folder = zero_shot.save(tmp_path / "model")
    for part, rows in (("check", range(20, 40)), ("new", (41, 42))):
        (tmp_path / part).mkdir()
        for i in rows:
            (tmp_path / part / f"{i}.png").write_bytes(digits.read(i))
    page = tmp_path / "page.html"
    arguments = ["explain", folder, tmp_path / "new", "--check", tmp_path / "check", "-o", page, "--json"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["id"] for one in found] == ["41.png", "42.png"]
    assert found[0]["deletion_test"]["n"] == 20
    assert bool(found[0]["maps"]) == found[0]["deletion_test"]["passed"]
    assert "2 answers explained" in page.read_text()
