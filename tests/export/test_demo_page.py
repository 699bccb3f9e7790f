"""The exported page classifies a dropped photo in a browser, without requests to other servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from checkpoints import picture

from modalign import Classifier
from modalign.export.onnx_folder import Export

DROP = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def address(exported: Export, node_modules: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(exported.folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Any:
    opened = browser.new_page()
    opened.trouble = []
    opened.on("pageerror", lambda what: opened.trouble.append(str(what)))
    opened.on("request", lambda r: r.url.startswith((address, "blob:")) or opened.trouble.append(r.url))
    opened.goto(address)
    opened.wait_for_function("document.getElementById('state').textContent == 'The model is ready.'")
    return opened


def test_a_dropped_photo_is_classified_as_in_python(page: Any, classifier: Classifier, tmp_path: Path) -> None:
    picture(2, 300, 211).save(tmp_path / "photo.png")
    page.evaluate(DROP, [list((tmp_path / "photo.png").read_bytes()), "photo.png"])
    page.wait_for_function("document.getElementById('state').textContent.startsWith('This photo')")
    expected = classifier.predict([tmp_path / "photo.png"])[0]
    assert page.text_content("#state") == f"This photo: {expected.name}."
    shown = page.text_content("#answer tr:first-child td:last-child")
    assert float(shown.removesuffix(" %")) == pytest.approx(100 * expected.probability, abs=0.15)
    assert page.trouble == []


def test_what_is_no_photo_is_refused_in_a_sentence(page: Any) -> None:
    page.evaluate(DROP, [[1, 2, 3], "notes.png"])
    page.wait_for_function("document.getElementById('state').textContent.startsWith('notes.png cannot be classified')")
