"""A model is uploaded to the hub and loaded unchanged, without data about its images and other downloads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml
from hub_stand_in import Hub
from huggingface_hub import constants

from modalign import Classifier, InputError, adapt, load
from modalign.core.errors import UnavailableError
from modalign.data.digits import load_digits
from modalign.model.hub.hub_page import model_page
from modalign.model.hub.hub_transfer import is_hub_name, without_images

REPO = "me/digits"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    huggingface_hub.close_session()
    monkeypatch.chdir(tmp_path)
    yield server
    huggingface_hub.close_session()
    server.close()


@pytest.fixture(scope="module")
def model() -> Classifier:
    return adapt(load_digits().select(range(60)), method="gda", mirror=False)


def test_to_the_hub_and_back(hub: Hub, model: Classifier) -> None:
    address = model.push_to_hub(REPO, token="t", private=True, license="apache-2.0")
    sha, files = hub.files(REPO)
    assert address.endswith(sha)
    assert hub.private[REPO]
    assert sorted(re.sub("[0-9a-f]{64}", "…", name) for name in files) == [
        "README.md",
        "card.json",
        "weights-….safetensors",
    ]
    again = load(REPO)
    assert isinstance(again, Classifier)
    test = load_digits().select(range(100, 110))
    assert np.array_equal(again.predict_proba(test), model.predict_proba(test))
    assert again.class_names == model.class_names
    assert again.rejection == model.rejection


def test_nothing_but_the_card_and_what_it_names_is_fetched(hub: Hub, model: Classifier) -> None:
    model.push_to_hub(REPO, token="t")
    card = json.loads(hub.files(REPO)[1]["card.json"])
    others = {"train.py": b"import os", "model.bin": b"\x80", "weights-" + "0" * 64 + ".safetensors": b"other"}
    hub.commit(REPO, others)
    hub.asked.clear()
    load(REPO)
    fetched = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert fetched == {"README.md", "card.json", card["weights"]}
    assert not [path for _, path in hub.asked if REPO not in path]  # no encoder is looked for on the hub


def test_a_revision_is_kept_to_and_the_weights_of_the_last_model_are_replaced(hub: Hub, model: Classifier) -> None:
    model.push_to_hub(REPO, token="t")
    first = hub.files(REPO)[0]
    other = adapt(load_digits().select(range(60, 120)), method="gda", mirror=False)
    other.push_to_hub(REPO, token="t")
    assert len(hub.files(REPO)[1]) == 3
    test = load_digits().select(range(200, 205))
    old, new = load(REPO, revision=first), load(REPO)
    assert isinstance(old, Classifier)
    assert isinstance(new, Classifier)
    assert np.array_equal(old.predict_proba(test), model.predict_proba(test))
    assert np.array_equal(new.predict_proba(test), other.predict_proba(test))


def test_images_are_named_only_if_requested(hub: Hub, model: Classifier) -> None:
    told = replace(model, record={**model.record, "notes": ["secret.jpg is a copy"], "quarantined": [{"id": "s.jpg"}]})
    hashes = sorted(model.fitted_on)
    told.push_to_hub(REPO, token="t")
    content = b"".join(hub.files(REPO)[1].values())
    assert b"secret.jpg" not in content
    assert b"s.jpg" not in content
    assert not any(h.encode() in content for h in hashes)
    model.push_to_hub(REPO, token="t", fingerprints=True)
    assert hashes[0].encode() in hub.files(REPO)[1]["card.json"]
    assert b"truncated content hashes" in hub.files(REPO)[1]["README.md"]


def test_answers_kept_for_fitted_images_stay_at_home() -> None:
    digits = load_digits().select(range(60)).unlabeled()
    model = adapt(digits, method="anchored_gaussian", mirror=False)
    assert "fitted_answers_" in vars(model.method)
    shared = without_images(model)
    assert not {"fitted_answers_", "transduction_"} & set(vars(shared.method))
    assert "fitted_answers_" in vars(model.method)


def test_the_page_has_valid_metadata_and_the_figures(model: Classifier) -> None:
    evaluation = model.evaluate(load_digits().select(range(100, 160)))
    front, _, text = model_page(model, REPO, evaluation, "mit").removeprefix("---\n").partition("\n---\n")
    data = yaml.safe_load(front)
    assert data["pipeline_tag"] == "image-classification"
    assert data["license"] == "mit"
    result = data["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == round(evaluation.accuracy.top1, 4)
    assert "base_model" not in data  # `tiny` is none of the hub
    for words in ("60 test images", "95 % interval", "GDA", "seed", "## Limits", "## Intended use"):
        assert words in text, words
    assert "no hashes of them" in model_page(without_images(model), REPO, None, None)
    own = model_page(replace(model, class_names=("a|b", "<b>", *model.class_names[2:])), REPO, None, None)
    assert r"a\|b, \<b\>" in own
    assert "60 training images, cross-fitting" in own


def test_what_is_no_model_and_no_repository_is_refused_in_a_sentence(hub: Hub, model: Classifier) -> None:
    with pytest.raises(UnavailableError, match="no repository on the hub"):
        load("me/absent")
    hub.commits["me/other"] = [("1" * 40, {"README.md": b"hello"})]
    with pytest.raises(InputError, match=r"has no card\.json"):
        load("me/other")
    hub.commits["me/odd"] = [("2" * 40, {"card.json": b'{"weights": "../../weights.bin"}'})]
    with pytest.raises(InputError, match="names its weights"):
        load("me/odd")
    for card in (b"[]", b"null", b'"x"', b'{"weights": 5}', b'{"weights": "*"}'):
        hub.commits["me/forged"] = [("3" * 40, {"card.json": card})]
        with pytest.raises(InputError, match="names its weights"):
            load("me/forged")
    with pytest.raises(InputError, match="user/name"):
        model.push_to_hub("no name at all")
    with pytest.raises(InputError, match="revision"):
        load(model.save("here"), revision="main")


def test_paths_are_not_taken_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert is_hub_name("user/name")
    for path in ("models/mine", "models", "./user/name", "/user/name", "user/name/x", "user name/x", "../x/y"):
        assert not is_hub_name(path), path
