"""Over a real socket, a client whose body is refused gets the answer, and cannot send without end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="local servers need the extra 'app'")
import uvicorn
from fastapi import FastAPI, Request

from modalign.app.web import Access, Guard, error_handlers, listen, request_body

LIMIT = 100_000
MUCH = bytes(20_000_000)  # more than the buffers of a socket hold
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def access() -> Iterator[Access]:
    app = FastAPI(exception_handlers=error_handlers())

    @app.post("/write")
    async def write(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    opened, access = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(Guard(app, access, needs_header=False, max_body=LIMIT), log_level="warning", ws="none")
    )
    running = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    running.start()
    while not server.started:
        time.sleep(0.01)
    yield access
    server.should_exit = True
    running.join()


@pytest.fixture
def connection(access: Access) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(access.host, access.port, timeout=30)
    yield opened
    opened.close()


def sent(opened: http.client.HTTPConnection, body: object, **headers: str) -> tuple[int, object, str | None]:
    opened.request("POST", "/write", body, headers, encode_chunked=not isinstance(body, bytes))
    answer = opened.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers["connection"]


REFUSED = {"error": f"Expected at most {LIMIT:,} bytes in one request, got more."}


@pytest.mark.parametrize("ending", ["close", "keep-alive"])
def test_a_client_that_sends_all_before_it_reads_gets_the_answer(
    ending: str, connection: http.client.HTTPConnection
) -> None:
    for body in (MUCH, iter([MUCH[: 2**16]] * 300)):  # with a length, and in chunks without one
        assert sent(connection, body, connection=ending) == (413, REFUSED, "close")
    assert sent(connection, MUCH, connection=ending, host="evil.example")[0] == 421  # also before the size is checked
    assert sent(connection, bytes(LIMIT)) == (200, {"bytes": LIMIT}, None)


@pytest.mark.parametrize("bound", ["LINGER_BYTES", "LINGER_SECONDS"])
def test_a_body_without_end_is_cut_off(bound: str, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bytes a sender is stopped; one that sends nothing is disconnected after the seconds."""
    monkeypatch.setattr(request_body, bound, 2**20 if bound == "LINGER_BYTES" else 0.2)
    with socket.create_connection((access.host, access.port), timeout=30) as client:
        client.sendall(b"POST /write HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999999\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 413")
        if bound == "LINGER_BYTES":
            assert is_cut_off(client)
        else:
            while client.recv(2**16):
                pass


def is_cut_off(client: socket.socket) -> bool:
    try:
        for _ in range(100):
            client.sendall(MUCH[: 2**20])
    except ConnectionError:
        return True
    return False
