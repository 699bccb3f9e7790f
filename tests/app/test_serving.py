"""The HTTP service answers as the classifier does, within its limits, and ends in order."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="local servers need the extra 'app'")
import httpx2
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import modalign as ma
from modalign import cli
from modalign.app.serving.answering import Answerer
from modalign.app.serving.serve_settings import ServeSettings
from modalign.app.serving.service import create_service
from modalign.app.web import Access
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.model.classifier import Classifier

URL = "http://127.0.0.1:8321"
PNG = {"content-type": "image/png"}
LIMITS = ServeSettings(max_body=2**18, max_images=4, max_queue=8)
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    digits = load_digits().select(range(200))
    encoder = ma.load_encoder("tiny", cache=False)
    return ma.adapt(digits, encoder=encoder, method="gda", validation="cross", mirror=False)


@pytest.fixture(scope="module")
def service(classifier: Classifier) -> Iterator[TestClient]:
    with TestClient(create_service(classifier, Access(port=8321), LIMITS), base_url=URL) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    digits = load_digits()
    return [digits.read(i) for i in range(300, 320)]


def form(*images: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (f"{i}.png", data, "image/png")) for i, data in enumerate(images)]


def test_a_lone_image_has_the_numbers_of_the_classifier_bit_for_bit(
    service: TestClient, classifier: Classifier, images: list[bytes]
) -> None:
    for data in images:
        (found,) = service.post("/v1/predict?top=10", content=data, headers=PNG).json()["predictions"]
        expected = classifier.predict([data])
        assert (found["name"], found["probability"]) == (expected[0].name, expected[0].probability)
        assert [(c["name"], c["probability"]) for c in found["top"]] == list(expected.top(10)[0])
        (vector,) = service.post("/v1/embed", content=data, headers=PNG).json()["vectors"]
        np.testing.assert_array_equal(
            np.array(vector["vector"], dtype=np.float32), classifier.encoder.embed_images([data]).vectors[0]
        )


def test_images_that_are_encoded_together_differ_by_rounding_at_most(
    service: TestClient, classifier: Classifier, images: list[bytes]
) -> None:
    found = service.post("/v1/predict?top=10", files=form(*images[:4])).json()["predictions"]
    assert [entry["id"] for entry in found] == ["0.png", "1.png", "2.png", "3.png"]
    for entry, data in zip(found, images, strict=False):
        expected = dict(classifier.predict([data]).top(10)[0])
        assert {c["name"]: c["probability"] for c in entry["top"]} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("reject", [0.05, 0.5])
def test_rejection_is_that_of_the_classifier(
    reject: float, service: TestClient, classifier: Classifier, images: list[bytes]
) -> None:
    found = [
        service.post(f"/v1/predict?reject={reject}", content=data, headers=PNG).json()["predictions"][0]
        for data in images[:8]
    ]
    expected = [classifier.predict([data], reject=reject)[0] for data in images[:8]]
    assert [(f["rejected"], f["name"]) for f in found] == [(e.rejected, e.name) for e in expected]
    assert "rejected" not in service.post("/v1/predict", content=images[0], headers=PNG).json()["predictions"][0]


def test_an_image_that_cannot_be_decoded_does_not_spoil_the_others(service: TestClient, images: list[bytes]) -> None:
    found = service.post("/v1/predict", files=form(images[0], b"nothing", images[1])).json()["predictions"]
    assert ["error" in entry for entry in found] == [False, True, False]
    vectors = service.post("/v1/embed", files=form(b"nothing", images[1])).json()["vectors"]
    assert ["error" in entry for entry in vectors] == [True, False]


def bomb() -> bytes:
    """A PNG of a few hundred bytes whose header declares 10¹⁰ pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no image": ({"content": b"nothing", "headers": PNG}, 422, "not an image"),
    "nothing": ({"content": b"", "headers": PNG}, 422, "empty body"),
    "a bomb": ({"content": bomb(), "headers": PNG}, 422, "too large"),
    "only bad images": ({"files": form(b"a", b"b")}, 422, "not an image"),
    "a form without a file": ({"files": {"a": (None, b"b")}}, 422, "empty body"),
    "another type": ({"json": {"a": 1}}, 415, "image/…"),
    "no type": ({"content": b"x"}, 415, "image/…"),
    "many bytes": ({"content": bytes(2**18 + 1), "headers": PNG}, 413, "at most"),
    "many bytes, unannounced": ({"content": iter([bytes(2**16)] * 5), "headers": PNG}, 413, "at most"),
    "many images": ({"files": form(*[b"x"] * 5)}, 413, "at most 4 images"),
    "very many images": ({"files": form(*[b"x"] * 1000)}, 413, "at most 4 images"),
    "very many fields": ({"files": {f"f{i}": (None, b"x") for i in range(1000)}}, 413, "8 other fields"),
    "a torn form": ({"content": b"--a\r\n", "headers": {"content-type": "multipart/form-data"}}, 400, ""),
    "a top too large": ({"params": {"top": 11}, "content": b"x", "headers": PNG}, 422, "'top' of at most 10, got '11'"),
    "a top of nothing": ({"params": {"top": 0}, "content": b"x", "headers": PNG}, 422, "'top' of at least 1, got '0'"),
    "a top in words": (
        {"params": {"top": "x"}, "content": b"x", "headers": PNG},
        422,
        "whole number, got 'x'; correct",
    ),
    "a misspelled parameter": (
        {"params": {"rejct": 0.1}, "content": b"x", "headers": PNG},
        422,
        "Unknown parameter 'rejct'; did you mean 'reject'",
    ),
    "another spelling": (
        {"params": {"Reject": 0.5}, "content": b"x", "headers": PNG},
        422,
        "'Reject'; did you mean 'reject'",
    ),
    "a parameter in capitals": (
        {"params": {"TOP": 3}, "content": b"x", "headers": PNG},
        422,
        "Unknown parameter 'TOP'",
    ),
    "a parameter twice": (
        {"params": {"top": [1, 3]}, "content": b"x", "headers": PNG},
        422,
        "'top' once, got it 2 times",
    ),
    "a share that is none": ({"params": {"reject": 1.5}, "content": b"x", "headers": PNG}, 422, "'reject'"),
    "another host": ({"content": b"x", "headers": PNG | {"host": "evil.example"}}, 421, "own address"),
    "another origin": ({"content": b"x", "headers": PNG | {"origin": "http://evil.example"}}, 403, "another site"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_get_a_status_and_a_sentence(case: str, service: TestClient) -> None:
    request, status, words = REFUSED[case]
    if "headers" in request and callable(getattr(request.get("content"), "__next__", None)):
        request = request | {"content": iter([bytes(2**16)] * 5)}  # an iterator serves once
    answer = service.post("/v1/predict", **request)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("verb", "path", "status", "sentence"),
    [
        ("GET", "/nope", 404, "Expected a path of this server, got '/nope'."),
        ("GET", f"/{'x' * 500}", 404, f"Expected a path of this server, got '/{'x' * 59}'."),
        ("GET", "/v1/predict", 405, "Expected POST for '/v1/predict', got GET."),
        ("DELETE", "/healthz", 405, "Expected GET for '/healthz', got DELETE."),
    ],
)
def test_an_unknown_path_or_verb_is_reported_in_the_same_form(
    verb: str, path: str, status: int, sentence: str, service: TestClient
) -> None:
    answer = service.request(verb, path)
    assert (answer.status_code, answer.json()) == (status, {"error": sentence})
    assert ("allow" in answer.headers) == (status == 405)


def test_a_share_that_needs_more_held_out_images_is_refused(
    service: TestClient, classifier: Classifier, images: list[bytes]
) -> None:
    assert classifier.rejection is not None
    lowest = 1 / (len(classifier.rejection.reference) + 1)
    for reject, status in ((lowest, 200), (lowest * 0.99, 422), (5e-324, 422)):
        assert service.post(f"/v1/predict?reject={reject!r}", content=images[0], headers=PNG).status_code == status


def test_a_full_queue_and_a_passed_deadline(classifier: Classifier, images: list[bytes], monkeypatch: Any) -> None:
    """With the model held back, four images fill the queue; the next is sent away, the others time out."""
    go, begun, original = threading.Event(), threading.Event(), Answerer.__call__

    def slow(self: Answerer, jobs: Any) -> Any:
        if len(jobs[0].image) > 100:  # not the picture of the start
            begun.set()
            go.wait(20)
        return original(self, jobs)

    monkeypatch.setattr(Answerer, "__call__", slow)
    limits = ServeSettings(max_queue=4, max_images=4, max_batch=1, deadline=1.0)
    app = create_service(classifier, Access(port=8321), limits)

    async def main() -> tuple[list[int], httpx2.Response]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=URL) as client:
            send = lambda i: asyncio.create_task(client.post("/v1/predict", content=images[i], headers=PNG))  # noqa: E731
            waiting = [send(0)]
            while not begun.is_set():
                await asyncio.sleep(0.001)
            waiting += [send(i) for i in range(1, 5)]
            while b"modalign_queue_images 4.0" not in (await client.get("/metrics")).content:
                await asyncio.sleep(0.001)
            refused = await client.post("/v1/predict", content=images[5], headers=PNG)
            late = [answer.status_code for answer in await asyncio.gather(*waiting)]
            go.set()
            await asyncio.sleep(0.1)
            late.append((await client.post("/v1/predict", content=images[6], headers=PNG)).status_code)
            return late, refused

    async def with_lifespan() -> tuple[list[int], httpx2.Response]:
        messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        done: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        running = asyncio.create_task(app({"type": "lifespan", "state": {}}, messages.get, done.put))  # type: ignore[arg-type]
        await messages.put({"type": "lifespan.startup"})
        assert (await done.get())["type"] == "lifespan.startup.complete"
        try:
            return await main()
        finally:
            go.set()
            await messages.put({"type": "lifespan.shutdown"})
            await running

    late, refused = asyncio.run(with_lifespan())
    assert late == [504] * 5 + [200]
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1


def test_the_token_is_required_everywhere_but_for_monitoring(classifier: Classifier, images: list[bytes]) -> None:
    access = Access("0.0.0.0", 8321, "long-enough")
    with TestClient(create_service(classifier, access), base_url=URL) as client:
        for path in ("/v1/model", "/metrics", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": "Bearer long-enough"}).status_code == 200
        assert client.post("/v1/predict", content=images[0], headers=PNG).status_code == 401
        bearer = PNG | {"authorization": "Bearer long-enough"}
        assert client.post("/v1/predict", content=images[0], headers=bearer).status_code == 200
        assert (
            client.post("/v1/predict", content=images[0], headers=bearer | {"authorization": "Bearer x"}).status_code
            == 401
        )
        assert [client.get(path).json()["status"] for path in ("/healthz", "/readyz")] == ["ok", "ready"]
        assert "$MODALIGN_TOKEN" in client.get("/docs", headers=bearer).text
        assert "long-enough" not in client.get("/docs", headers=bearer).text


def test_metrics_count_requests_images_and_batches(classifier: Classifier, images: list[bytes]) -> None:
    with TestClient(create_service(classifier, Access(port=8321)), base_url=URL) as client:
        client.post("/v1/predict", files=form(images[0], images[1], b"nothing"))
        client.post("/v1/predict", content=b"nothing", headers=PNG)
        for path in ("/unknown/1", "/unknown/2"):
            assert client.get(path).status_code == 404
        text = client.get("/metrics").text
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["modalign_requests_total", "/v1/predict", "200"] == 1
    assert samples["modalign_requests_total", "/v1/predict", "422"] == 1
    assert samples["modalign_requests_total", "none", "404"] == 2
    assert samples["modalign_images_total", "ok"] == 2 + 1  # one picture when the server starts
    assert samples["modalign_images_total", "undecodable"] == 2
    assert samples["modalign_batch_images_sum",] == 5
    assert samples["modalign_queue_images",] == 0


def test_the_card_names_no_image_and_no_folder(service: TestClient, classifier: Classifier) -> None:
    text = service.get("/v1/model").text
    assert not any(name in text for name in classifier.fitted_on)
    assert str(Path.home()) not in text
    card = service.get("/v1/model").json()
    assert card["classes"] == list(classifier.class_names)
    assert card["fingerprint"] == classifier.encoder.spec.fingerprint
    assert card["can_reject"] is True


def test_the_page_about_the_service_is_whole_and_loads_nothing_from_elsewhere(service: TestClient) -> None:
    page = service.get("/docs").text
    for path in service.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "<script" not in page
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', page)) == {"data:,", "/docs.css", "/openapi.json"}
    assert service.get("/docs.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "Expected --token with the host '0.0.0.0'"),
        (["--token", "short"], "at least 8 printable"),
        (["--token", "long-enough", "--token-file", "x"], "got both"),
        (["--deadline", "0"], "--deadline greater than 0"),
        ([], "Unknown model folder"),
    ],
)
def test_bad_options_of_the_command(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODALIGN_TOKEN", raising=False)
    assert cli.run(["serve", "no/such/model", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_request_may_have_no_more_images_than_may_wait() -> None:
    with pytest.raises(InputError, match="max_queue="):
        ServeSettings(max_queue=3)


def test_a_real_process_ends_its_requests_before_it_ends_itself(
    classifier: Classifier, images: list[bytes], tmp_path: Path
) -> None:
    """SIGTERM comes while a request waits for company; it is answered, and the exit code is 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "modalign.cli", "serve", str(classifier.save(tmp_path / "model"))]
    process = subprocess.Popen([*command, "--port", str(port), "--max-wait", "1500"], stdout=subprocess.PIPE, text=True)
    try:
        base = f"http://127.0.0.1:{port}"
        assert process.stdout is not None
        assert f"{base}/docs" in process.stdout.readline()
        with httpx2.Client(base_url=base, timeout=60) as client:
            deadline = time.monotonic() + 60
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline
            answers: list[httpx2.Response] = []
            asked = threading.Thread(
                target=lambda: answers.append(
                    httpx2.post(f"{base}/v1/predict", content=images[0], headers=PNG, timeout=60)
                )
            )
            asked.start()
            time.sleep(0.5)
        process.terminate()
        asked.join(60)
        assert process.wait(60) == 0
    finally:
        process.kill()
    expected = classifier.predict([images[0]])[0]
    (found,) = answers[0].json()["predictions"]
    assert (found["name"], found["probability"]) == (expected.name, expected.probability)


def test_a_large_photo_is_answered(service: TestClient, classifier: Classifier) -> None:
    file = io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(file, "JPEG", quality=70)
    (found,) = service.post("/v1/predict", content=file.getvalue(), headers=PNG).json()["predictions"]
    assert found["probability"] == classifier.predict([file.getvalue()])[0].probability
