"""Ctrl-C ends a server with one sentence and exit code 130."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import modalign as ma
from modalign import cli
from modalign.data.digits import load_digits

pytest.importorskip("fastapi", reason="local servers need the extra 'app'")
from starlette.types import Receive, Scope, Send

from modalign.app.web import run_app

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.timeout(120),
]


def interrupt_when_it_answers(port: int) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with suppress(OSError):
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
            os.kill(os.getpid(), signal.SIGINT)  # as a terminal does
            return
        time.sleep(0.02)


@pytest.mark.parametrize("command", ["studio", "serve"])
def test_ctrl_c_ends_a_server_with_one_sentence(command: str, tmp_path: Path, own_cache: None, capsys) -> None:
    digits = load_digits().select(range(20))
    for i in range(20):
        place = tmp_path / "digits" / digits.class_names[digits.labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(digits.read(i))
    if command == "serve":
        ma.adapt(digits, encoder="tiny", method="zero_shot").save(tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stopping = threading.Thread(target=interrupt_when_it_answers, args=[port], daemon=True)
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    stopping.start()
    try:
        source = tmp_path / ("digits" if command == "studio" else "model")
        assert cli.run([command, str(source), "--port", str(port)]) == 130
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "stopped" in line] == said[-1:]
    assert not [line for line in said if "Traceback" in line]
    if command == "studio":
        kept = tmp_path / "digits.studio"
        assert f"the labels in '{kept}'" in said[-1]
        assert "vectors" not in said[-1]


def test_a_stopped_server_finishes_requests_but_waits_for_no_upload() -> None:
    """With a body the application computes on after the stop; without, it is told that the client has left."""
    seen: dict[str, object] = {}
    waiting = {"/whole": threading.Event(), "/stalled": threading.Event()}
    answers: dict[str, bytes] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, more = scope["path"], True
        try:
            while more:
                if path == "/stalled":
                    waiting[path].set()
                message = await receive()
                more = message.get("more_body", False)
            if path == "/whole":
                waiting[path].set()
                while "/stalled" not in seen:  # which ends after the stop alone
                    await asyncio.sleep(0.01)
            seen[path] = message["type"]
        except asyncio.CancelledError:
            seen[path] = "cancelled"
            raise
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def request(path: str, body: bytes) -> None:
        with suppress(OSError), socket.create_connection(address, timeout=60) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n".encode() + body)
            while data := connection.recv(4096):
                answers[path] = answers.get(path, b"") + data

    def stop() -> None:
        for event in waiting.values():
            event.wait()
        os.kill(os.getpid(), signal.SIGINT)

    opened = socket.create_server(("127.0.0.1", 0))
    address = opened.getsockname()
    threads = [
        threading.Thread(target=request, args=["/whole", b"123456789"], daemon=True),
        threading.Thread(target=request, args=["/stalled", b"12345"], daemon=True),
        threading.Thread(target=stop, daemon=True),
    ]
    for thread in threads:
        thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_app(app, opened, drain=3)
    finally:
        signal.signal(signal.SIGINT, before)
    for thread in threads:
        thread.join()
    assert seen == {"/stalled": "http.disconnect", "/whole": "http.request"}
    assert answers["/whole"].endswith(b"ok")
    assert "/stalled" not in answers


def test_a_studio_on_a_port_in_use_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        source, port = tmp_path / "digits", used.getsockname()[1]
        for k in range(2):
            (source / str(k)).mkdir(parents=True)
            (source / str(k) / "image.png").write_bytes(load_digits().read(k))
        assert cli.run(["studio", str(source), "--port", str(port)]) == 2
    assert "an address to listen on" in capsys.readouterr().err
    assert not (tmp_path / "digits.studio").exists()
