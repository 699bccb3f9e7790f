"""The routes of the studio: what they answer, refuse, and never show."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the studio needs the extra 'app'")
from starlette.testclient import TestClient

from modalign.app.studio.exporting import export_folders
from modalign.app.studio.opening import open_session
from modalign.app.studio.routes import studio_app
from modalign.app.studio.row_queries import RowQuery, find_rows
from modalign.app.studio.session import Session
from modalign.app.studio.state_folder import state_folder
from modalign.app.web import WRITE_HEADER, Access
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.data.items import load_items

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 digits in folders of their classes."""
    items = load_digits().select(range(120))
    root = tmp_path_factory.mktemp("studio") / "digits"
    for i in range(len(items)):
        place = root / items.class_names[items.labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03d}.png").write_bytes(items.read(i))
    return root


@pytest.fixture
def session(folder: Path, tmp_path: Path, own_cache: None) -> Iterator[Session]:
    opened = open_session(folder, state=tmp_path / "state", thorough=False)
    yield opened
    opened.close()


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    app = studio_app(session, Access(port=8321))
    with TestClient(app, base_url="http://127.0.0.1:8321", headers={WRITE_HEADER: "1"}) as opened:
        yield opened


def test_a_label_is_in_the_state_at_once_and_for_every_tab(client: TestClient, session: Session) -> None:
    before = client.get("/api/state").json()
    row = client.get("/api/next").json()["entries"][0]["row"]
    answer = client.post("/api/label", json={"rows": [row], "of": 3, "since": before["stamp"]}).json()
    assert answer["others"] == 0
    after = client.get("/api/state", params={"known": before["version"]}).json()
    assert after["version"] > before["version"]
    assert after["counts"]["taught"] + after["counts"]["exam"] == 1
    assert client.post("/api/label", json={"rows": [row], "of": 4, "since": before["stamp"]}).json()["others"] == 1
    session.fast.wait()
    quiet = client.get("/api/state").json()["version"]
    assert set(client.get("/api/state", params={"known": quiet}).json()) == {"version", "jobs"}
    assert client.post("/api/undo").json()["undone"] == "label"
    assert client.post("/api/entries", json={"rows": [row]}).json()["entries"][0]["label"] == 3


def test_windows_of_rows_make_up_the_whole_list(client: TestClient, session: Session) -> None:
    whole = client.post("/api/rows", json={"order": "uncertain", "only_rows": True}).json()["rows"]
    parts = [
        client.post("/api/rows", json={"order": "uncertain", "offset": k, "limit": 40}).json() for k in (0, 40, 80)
    ]
    assert [entry["row"] for part in parts for entry in part["entries"]] == whole
    assert {part["total"] for part in parts} == {len(whole)} == {96}
    assert all(entry["best"] for part in parts for entry in part["entries"])


def test_pictures_are_found_by_hash_only(client: TestClient, session: Session) -> None:
    content = session.labeling.contents[0]
    found = client.get(f"/thumb/{content}.webp")
    assert found.headers["content-type"] == "image/webp"
    assert "immutable" in found.headers["cache-control"]
    with Image.open(io.BytesIO(found.content)) as image:
        shown = np.asarray(image.convert("RGB"))
    assert (shown == np.asarray(session.gallery.items.open(0))).all()
    assert client.get(f"/photo/{content}.webp").content
    kept = session.gallery.cache / content[:2] / f"{content}.webp"
    for damaged in (b"", kept.read_bytes()[:-2]):  # as after a power failure
        kept.write_bytes(damaged)
        assert client.get(f"/thumb/{content}.webp").content == found.content == kept.read_bytes()
    for path in (
        "/thumb/../../etc/passwd.webp",
        "/thumb/%2e%2e%2f%2e%2e%2fetc%2fpasswd.webp",
        "/thumb/..%2f..%2flabels.jsonl.webp",
        f"/other/{content}.webp",
        "/thumb/0000000000000000.webp",
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "/api/export/..%2flabels.jsonl",
    ):
        answer = client.get(path)
        assert answer.status_code in (404, 405) or answer.headers["content-type"] == "image/svg+xml", path
        assert b"root:" not in answer.content
        assert b"def " not in answer.content


def test_images_that_vanish_or_change_become_placeholders(folder: Path, tmp_path: Path, own_cache: None) -> None:
    import shutil

    own = shutil.copytree(folder, tmp_path / "own")
    session = open_session(own, state=tmp_path / "state", thorough=False)
    app = studio_app(session, Access(port=8321))
    with TestClient(app, base_url="http://127.0.0.1:8321", headers={WRITE_HEADER: "1"}) as client:
        gone, changed = 0, 1
        client.post("/api/label", json={"rows": [gone], "of": 0})
        (own / session.labeling.ids[gone]).unlink()
        (own / session.labeling.ids[changed]).write_bytes(b"no image")
        for row in (gone, changed):
            answer = client.get(f"/thumb/{session.labeling.contents[row]}.webp")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
            assert answer.headers["cache-control"] == "no-store"
        entries = client.post("/api/entries", json={"rows": [gone, changed]}).json()["entries"]
        reasons = [entry["gone"] for entry in entries if entry["gone"]]
        assert any("not found" in reason for reason in reasons)
        assert client.get("/api/state").json()["counts"]["gone"] >= 1
        assert not {gone, changed} & set(session.next_rows("random", 100))
    session.close()
    again = open_session(own, state=tmp_path / "state", thorough=False)
    assert again.labeling.elsewhere == 1  # the label is kept
    assert any(note for note in again.settings.notes)
    again.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("label", {"rows": [0], "of": 99}),
        ("label", {"rows": [10**9], "of": 0}),
        ("label", {"rows": [-1], "of": 0}),
        ("label", {"rows": "all", "of": 0}),
        ("label", {"rows": [True], "of": 0}),
        ("label", {"rows": [0], "of": True}),
        ("label", {"of": 0}),
        ("label", {"rows": [0], "of": 0, "path": "/etc/passwd"}),
        ("classes", {}),
        ("classes", {"add": ""}),
        ("classes", {"add": "x" * 201}),
        ("classes", {"add": "zero"}),
        ("classes", {"add": "half \ud800"}),
        ("classes", {"rename": [0, "one"]}),
        ("classes", {"merge": [0, 0]}),
        ("classes", {"merge": [0, 77]}),
        ("rows", {"limit": 501}),
        ("rows", {"order": "similar"}),
        ("rows", {"order": "similar", "to": 10**6}),
        ("rows", {"show": "secret"}),
    ],
)
def test_wrong_requests_get_one_sentence_and_change_nothing(
    client: TestClient, session: Session, path: str, body: dict[str, object]
) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(f"/api/{path}", content=json.dumps(body), headers=headers)  # also what UTF-8 cannot hold
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(("Expected", "Unknown value of show 'secret'"))
    assert session.labeling.stamp == 10  # the classes of the start


def test_unknown_and_repeated_parameters_of_a_query_are_refused(client: TestClient) -> None:
    for path in ("next?x=1", "next?By=both", "map?by=zz", "state?known=1&known=2", "export/labels.csv?as=json"):
        answer = client.get(f"/api/{path}")
        assert answer.status_code == 422, path
        assert answer.json()["error"].startswith(("Unknown parameter", "Expected the parameter 'known' once"))


def test_writes_are_guarded(session: Session) -> None:
    with TestClient(studio_app(session, Access(port=8321)), base_url="http://127.0.0.1:8321") as client:
        assert client.post("/api/undo").status_code == 403
        headers = {WRITE_HEADER: "1", "origin": "http://evil.example"}
        assert client.post("/api/undo", headers=headers).status_code == 403
        assert client.get("/api/state", headers={"host": "evil.example"}).status_code == 421
        for path in ("/docs", "/openapi.json", "/redoc"):
            assert client.get(path).status_code == 404
        page = client.get("/")
        assert "unsafe" not in page.headers["content-security-policy"]
        for forbidden in ("http://", "https://", "style=", "<script>", "onclick"):
            assert forbidden not in page.text.replace("http://www.w3.org", "")


def test_names_are_data_and_never_markup(client: TestClient, session: Session) -> None:
    number = client.post("/api/classes", json={"add": EVIL}).json()["id"]
    state = client.get("/api/state")
    assert state.headers["content-type"] == "application/json"
    assert {"id": number, "name": EVIL, "labeled": 0, "predicted": 0} in state.json()["classes"]
    assert EVIL not in client.get("/").text


def test_exported_labels_read_back(client: TestClient, session: Session, folder: Path, tmp_path: Path) -> None:
    truth = load_items(folder)
    label_of = dict(zip(truth.ids, truth.labels.tolist(), strict=True))
    rows = session.next_rows("random", 30)
    for row in rows[:-1]:
        client.post("/api/label", json={"rows": [row], "of": label_of[session.labeling.ids[row]]})
    client.post("/api/label", json={"rows": rows[-1:], "of": "none"})
    path = tmp_path / "labels.csv"
    path.write_bytes(client.get("/api/export/labels.csv").content)
    again = load_items(path, classes=truth.class_names)
    exam = int(session.labeling.examined.sum())
    assert len(again) == 30
    assert (again.parts == "test").sum() == exam == 6
    for i in range(30):
        name = str(Path(again.ids[i]).relative_to(folder))
        assert again.labels[i] == (label_of[name] if name != session.labeling.ids[rows[-1]] else -1)
    coco = client.get("/api/export/coco.json").json()
    assert (len(coco["images"]), len(coco["annotations"])) == (30, 29)
    assert coco["images"][0]["width"] == 8
    tasks = client.get("/api/export/label-studio.json").json()
    for name, document in (("coco", coco), ("tasks", tasks)):  # beside the images they are sources
        file = folder / f"{name}.json"
        file.write_text(json.dumps(document))
        read = load_items(file)
        found = {i: read.class_names[k] for i, k in zip(read.ids, read.labels.tolist(), strict=True) if k >= 0}
        file.unlink()
        ids = [session.labeling.ids[row] for row in rows]
        expected = {i: truth.class_names[label_of[i]] for i in ids[:-1]}
        assert found == expected | ({ids[-1]: "none"} if name == "tasks" else {})
    assert sum("annotations" in task for task in tasks) == 30
    assert sum("predictions" in task for task in tasks) == 120 - 24 - 24  # neither labeled nor of the exam
    table = list(csv.reader(io.StringIO(client.get("/api/export/predictions.csv").text)))
    assert len(table) == 121
    assert table[0][:3] == ["path", "predicted", "probability"]


def test_folders_and_the_model_are_written_beside_the_labels(
    client: TestClient, session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import modalign as ma
    from modalign.app.studio import model_saving

    truth = load_items(folder)
    numbers = dict(zip(truth.ids, truth.labels.tolist(), strict=True))
    asked = session.next_rows("random", 40)
    taught = [row for row in asked if not session.labeling.reserved[row]]
    for row in taught:
        client.post("/api/label", json={"rows": [row], "of": numbers[session.labeling.ids[row]]})
    client.post("/api/classes", json={"rename": [0, "../zero/" + EVIL]})
    client.post("/api/export/sorted")
    assert session.slow.wait()
    sorted_folder = session.labeling.log.folder / "sorted"
    assert {p.parent.parent for p in sorted_folder.rglob("*.png")} == {sorted_folder}
    assert sum(1 for _ in sorted_folder.rglob("*.png")) == len(taught) == 32

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("rmtree", "link"):  # a killed export is replaced by the next one
        with monkeypatch.context() as patched:
            patched.setattr(shutil if step == "rmtree" else os, step, stop)
            with pytest.raises(KeyboardInterrupt):
                export_folders(session)
    client.post("/api/export/sorted")  # again
    assert session.slow.wait()
    assert sum(1 for _ in sorted_folder.rglob("*.png")) == 32
    assert session.slow.state()["errors"] == {}

    monkeypatch.setattr(model_saving, "SECONDS", 1.0)
    client.post("/api/export/model")
    assert session.slow.wait()
    assert session.slow.state()["errors"] == {}
    model = ma.load(session.labeling.log.folder / "model")
    contents = {session.labeling.contents[row] for row in taught}
    assert model.fitted_on == contents  # and no image of the exam
    assert model.record["exam"]["images"] == 0
    exam = [row for row in asked if session.labeling.reserved[row]]
    for row in exam:
        client.post("/api/label", json={"rows": [row], "of": numbers[session.labeling.ids[row]]})
    client.post("/api/export/model")
    client.post("/api/export/model-with-exam")
    assert session.slow.wait()
    assert ma.load(session.labeling.log.folder / "model").fitted_on == contents
    final = ma.load(session.labeling.log.folder / "model-with-exam")
    assert final.fitted_on == contents | {session.labeling.contents[row] for row in exam}
    assert final.record["exam"]["learned_from"] is True
    assert final.record["exam"]["images"] == len(exam) == 8
    assert model.class_names[0] == f"../zero/{EVIL}"


def test_a_list_of_an_audit_or_a_search_is_shown_in_its_order(folder: Path, tmp_path: Path, own_cache: None) -> None:
    ids = load_items(folder).ids
    audit, search, other = tmp_path / "audit.json", tmp_path / "search.json", tmp_path / "other.json"
    audit.write_text(json.dumps({"findings": [{"ids": [ids[50], ids[7]]}, {"ids": [ids[7], "gone.png"]}]}))
    search.write_text(json.dumps({"hits": [{"id": ids[3], "score": 1}, {"id": ids[2], "score": 0}]}))
    for path, rows in ((audit, (50, 7)), (search, (3, 2))):
        session = open_session(folder, state=tmp_path / "state", listed=path, import_labels=True, thorough=False)
        assert session.settings.listed == rows
        assert find_rows(session, RowQuery("listed")).tolist() == list(rows)
        session.close()
    for content, expected in (("[1]", "findings of"), ('{"hits": [{"id": "x.png"}]}', r"others; give listed=")):
        other.write_text(content)
        with pytest.raises(InputError, match=expected):
            open_session(folder, state=tmp_path / "state", listed=other, thorough=False)


def test_a_state_lies_beside_the_images(folder: Path) -> None:
    assert state_folder(folder) == folder.parent / "digits.studio"
    assert json.dumps(str(state_folder(Path("x.zip")))).endswith('x.zip.studio"')


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "Expected the body as a JSON document, got other text"),
        (b'{"order": "uncertain", "offset": "x"}', "Expected 'offset' as a whole number, got 'x'"),
        (b'{"rows": [0], "of": "x"}', "Expected 'of' as a whole number, got 'x'"),
        (b'{"rows": [0, "x"]}', "Expected 'rows.1' as a whole number, got 'x'"),
    ],
)
def test_a_body_of_another_form_is_named_by_its_own_names(body: bytes, sentence: str, client: TestClient) -> None:
    place = "/api/label" if b"rows" in body else "/api/rows"
    answer = client.post(place, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(sentence)
