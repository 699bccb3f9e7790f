"""The HTTP service of a classifier of several classes per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="local servers need the extra 'app'")
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import modalign as ma
from modalign.app.serving.service import create_service
from modalign.app.serving.service_models import SetsReply
from modalign.app.web import Access
from modalign.cli.servers.serve_command import _servable
from modalign.data.digit_pairs import load_digit_pairs
from modalign.model.multi_label import MultiLabelClassifier, adapt_multi_label

PNG = {"content-type": "image/png"}
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> MultiLabelClassifier:
    """Saved and read as the command does it."""
    encoder = ma.load_encoder("tiny", cache=False)  # a cache may hold vectors that were encoded together with others
    fitted = adapt_multi_label(load_digit_pairs(60, 0), encoder=encoder, method="gda")
    found = _servable(fitted.save(tmp_path_factory.mktemp("sets") / "model"), None)
    assert isinstance(found, MultiLabelClassifier)
    return replace(found, encoder=encoder)


@pytest.fixture(scope="module")
def service(classifier: MultiLabelClassifier) -> Iterator[TestClient]:
    with TestClient(create_service(classifier, Access(port=8321)), base_url="http://127.0.0.1:8321") as client:
        yield client


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    pairs = load_digit_pairs(60, 12).part("test")
    return [pairs.items.read(i) for i in range(len(pairs))]


def test_a_lone_image_has_the_set_and_the_numbers_of_the_classifier_bit_for_bit(
    service: TestClient, classifier: MultiLabelClassifier, images: list[bytes]
) -> None:
    sizes = set()
    for data in images:
        (found,) = service.post("/v1/predict", content=data, headers=PNG).json()["predictions"]
        expected = classifier.predict([data])
        assert found["classes"] == list(expected.sets[0])
        sizes.add(len(found["classes"]))
        shares = {c["name"]: (c["probability"], c["threshold"], c["shown"]) for c in found["top"]}
        columns = (expected.probabilities[0].tolist(), classifier.model.thresholds.tolist(), expected.answers[0] == 1)
        assert shares == dict(zip(expected.class_names, zip(*columns, strict=True), strict=True))
        probabilities = [c["probability"] for c in found["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        (vector,) = service.post("/v1/embed", content=data, headers=PNG).json()["vectors"]
        np.testing.assert_array_equal(
            np.array(vector["vector"], dtype=np.float32), classifier.encoder.embed_images([data]).vectors[0]
        )
    assert len(sizes) > 1  # the sets are not all of one size


def test_top_shortens_the_list_and_not_the_set(service: TestClient, images: list[bytes]) -> None:
    files = [("images", (f"{i}.png", data, "image/png")) for i, data in enumerate([*images[:4], b"nothing"])]
    whole, short = (service.post("/v1/predict", params=p, files=files).json()["predictions"] for p in ({}, {"top": 1}))
    assert [set(entry) for entry in short] == [{"id", "classes", "top"}] * 4 + [{"id", "top", "error"}]
    for long, brief in zip(whole[:4], short[:4], strict=True):
        assert brief["classes"] == long["classes"]
        assert brief["top"] == long["top"][:1]
        assert len(long["top"]) == 10


@pytest.mark.parametrize(
    ("query", "words"), [("reject=0.1", "Unknown parameter 'reject'"), ("top=11", "'top'"), ("top=0", "'top'")]
)
def test_parameters_without_meaning_are_refused(query: str, words: str, service: TestClient) -> None:
    answer = service.post(f"/v1/predict?{query}", content=b"x", headers=PNG)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_the_description_is_that_of_the_answers(
    service: TestClient, classifier: MultiLabelClassifier, images: list[bytes]
) -> None:
    document = service.get("/openapi.json").json()
    operation = document["paths"]["/v1/predict"]["post"]
    assert [p["name"] for p in operation["parameters"]] == ["top"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/SetsReply"}
    text = service.post("/v1/predict", content=images[0], headers=PNG).text
    SetsReply.model_validate_json(text, strict=True, extra="forbid")
    card = service.get("/v1/model").json()
    assert (card["multi_label"], card["can_reject"]) == (True, False)
    assert card["thresholds"] == dict(zip(classifier.class_names, classifier.model.thresholds.tolist(), strict=True))
    assert str(Path.home()) not in str(card)
    assert not any(name in str(card) for name in classifier.fitted_on)
    assert "SetsReply" in service.get("/docs").text


def test_metrics_count_its_images_too(classifier: MultiLabelClassifier, images: list[bytes]) -> None:
    with TestClient(create_service(classifier, Access(port=8321)), base_url="http://127.0.0.1:8321") as client:
        client.post("/v1/predict", content=images[0], headers=PNG)
        client.post("/v1/predict", content=b"nothing", headers=PNG)
        text = client.get("/metrics").text
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["modalign_images_total", "ok"] == 1 + 1  # one picture when the server starts
    assert samples["modalign_images_total", "undecodable"] == 1
    assert samples["modalign_requests_total", "/v1/predict", "422"] == 1
