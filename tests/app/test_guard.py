"""A local server answers its own pages only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="local servers need the extra 'app'")
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from modalign.app.web import WRITE_HEADER, Access, Guard, error_handlers, is_loopback, listen
from modalign.core.errors import FullDiskError, InputError

HOST = "127.0.0.1:8321"


def application() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=error_handlers())

    @app.get("/")
    def read() -> dict[str, int]:
        return {"read": 1}

    @app.post("/write")
    async def write(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/number")
    def number(value: dict[str, int]) -> dict[str, int]:
        return value

    @app.get("/fault/{kind}")
    def fault(kind: str) -> None:
        raise FullDiskError("no room") if kind == "disk" else InputError("Expected <b>, got <i>.")

    return app


def client(access: Access, host: str = HOST, **options: Any) -> TestClient:
    return TestClient(Guard(application(), access, **options), base_url=f"http://{host}")


@pytest.fixture
def local() -> Iterator[TestClient]:
    with client(Access(port=8321)) as opened:
        yield opened


@pytest.mark.parametrize("host", [HOST, "localhost:8321", "[::1]:8321", "LOCALHOST"])
def test_own_hosts_are_answered(local: TestClient, host: str) -> None:
    assert local.get("/", headers={"host": host}).json() == {"read": 1}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:8321", "192.168.0.7"])
def test_another_host_is_refused(local: TestClient, host: str) -> None:
    assert local.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1:8321.x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(local: TestClient, origin: str, method: str) -> None:
    answer = local.request(method, "/write", headers={"origin": origin, WRITE_HEADER: "1"})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_write_needs_the_header(local: TestClient) -> None:
    assert local.post("/write").status_code == 403
    assert local.post("/write", headers={WRITE_HEADER: "1", "origin": f"http://{HOST}"}).json() == {"bytes": 0}
    with client(Access(port=8321), needs_header=False) as opened:
        assert opened.post("/write").status_code == 200


def test_every_answer_has_the_headers(local: TestClient) -> None:
    for answer in (local.get("/"), local.get("/none"), local.post("/write")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_a_body_is_counted_while_it_arrives() -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 60] * 3

    with client(Access(port=8321), max_body=100) as opened:
        headers = {WRITE_HEADER: "1"}
        assert opened.post("/write", content=b"x" * 100, headers=headers).json() == {"bytes": 100}
        assert opened.post("/write", content=b"x" * 101, headers=headers).status_code == 413
        assert opened.post("/write", content=chunks(), headers=headers).status_code == 413  # states no length


def test_a_client_that_leaves_while_it_sends_is_no_error_of_the_server() -> None:
    app = FastAPI(exception_handlers=error_handlers())

    @app.post("/write")
    async def write(request: Request) -> int:
        return len(await request.body())

    sent: list[dict[str, Any]] = []
    arriving = iter([{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(arriving)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:8321"), (WRITE_HEADER.encode(), b"1"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": "/write", "headers": headers, "query_string": b""}
    asyncio.run(Guard(app, Access(port=8321))(scope, receive, send))
    assert sent[0]["status"] == 499


def test_a_token_is_taken_from_the_address_the_cookie_or_the_header() -> None:
    access = Access("192.168.0.7", 8321, "secret-ä")
    host = "192.168.0.7:8321"
    assert client(access, host).get("/").status_code == 401
    assert client(access, host).get("/?token=wrong").status_code == 401
    with client(Access("192.168.0.7", 8321, "secret"), host) as opened:
        answer = opened.get("/?token=secret")
        assert answer.status_code == 200
        assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
        assert opened.get("/").status_code == 200  # by the cookie
        opened.cookies.clear()
        assert opened.get("/", headers={"authorization": "Bearer secret"}).status_code == 200
        assert opened.get("/", headers={"authorization": "Basic secret"}).status_code == 401
        assert opened.get("/", headers={"cookie": "modalign-8321=wrong"}).status_code == 401


def test_errors_are_one_sentence_of_json(local: TestClient) -> None:
    found = local.get("/fault/input")
    assert (found.status_code, found.json()) == (422, {"error": "Expected <b>, got <i>."})
    assert found.headers["content-type"] == "application/json"
    assert local.get("/fault/disk").status_code == 507
    wrong = local.post("/number", json={"a": "x"}, headers={WRITE_HEADER: "1"})
    assert wrong.status_code == 422
    assert "'a'" in wrong.json()["error"]


def test_which_addresses_are_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "example.org", "")))


def test_all_interfaces_answer_to_addresses_and_to_the_name_of_the_machine() -> None:
    access = Access("0.0.0.0", 8321, "secret")
    assert access.allows_host("10.1.2.3:8321")
    assert access.allows_host(socket.gethostname())
    assert not access.allows_host("evil.example:8321")


def test_ports_are_chosen_or_refused() -> None:
    first, access = listen()
    second, other = listen()
    with first, second:
        assert access.port != other.port
        assert access.token is None
        assert access.url == f"http://127.0.0.1:{access.port}/"
        with pytest.raises(InputError, match=f"port={access.port}"):
            listen(port=access.port)
    with pytest.raises(InputError, match="choose another"):
        listen("192.0.2.1", 8321)  # an address for documentation, which no machine has
    for host in ("", "a..b", "x" * 300):
        with pytest.raises(InputError, match="choose another"):
            listen(host)
    with pytest.raises(InputError, match="name or address"):
        listen("127.0.0.1\0")
    for port in (-1, 2**16, 10**9):
        with pytest.raises(InputError, match="from 0 to 65535"):
            listen(port=port)


def test_an_address_that_others_reach_gets_a_token() -> None:
    opened, access = listen("0.0.0.0", 0)
    with opened:
        assert access.token is not None
        assert len(access.token) >= 32
        assert access.url.endswith(f"?token={access.token}")
