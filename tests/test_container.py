"""deploy/Dockerfile, line by line against the package; it is not built here."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="the image has the extra 'app'")

from modalign.app.serving.service import OPEN_PATHS
from modalign.app.web.access import Access, is_loopback
from modalign.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """The lines of the file, joined where they go on, as (instruction, rest)."""
    lines = [line for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def rest_of(name: str) -> str:
    (found,) = [rest for own, rest in instructions() if own == name]
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def python() -> str:
    found = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", rest_of("FROM"))
    assert found is not None
    return found[1]


def test_every_package_of_the_image_is_pinned_to_a_version_that_is_allowed() -> None:
    """All that the package with its extra needs on the Python of the image, and what that needs; and what builds it."""
    if "+cpu" not in version("torch"):
        pytest.skip("the image has the build of torch for processors, this environment another one")
    number, pinned = python(), pins()
    place = {"python_full_version": number, "python_version": number.rpartition(".")[0], "sys_platform": "linux",
             "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}  # fmt: skip
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert all(Requirement(r).specifier.contains(pinned[canonicalize_name(Requirement(r).name)]) for r in build)
    waiting = [Requirement(r) for r in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        assert name in pinned, f"{wanted} is not in constraints.txt"
        assert wanted.specifier.contains(pinned[name]), f"{wanted}, constraints.txt has {pinned[name]}"
        if (name, extras) not in seen:
            seen.add((name, extras))
            for line in requires(name) or []:
                own = Requirement(line)
                if own.marker is None or any(own.marker.evaluate({**place, "extra": e}) for e in ("", *extras)):
                    waiting.append(own)
    assert {"torch", "uvicorn", "numpy"} <= {name for name, _ in seen}
    assert len(seen) > 30


def test_the_package_supports_the_python_of_the_image() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(python())
    short = python().rpartition(".")[0]
    assert f"Programming Language :: Python :: {short}" in PROJECT["classifiers"]


def test_what_is_copied_is_there_and_enough_to_build() -> None:
    copied = [path for own, rest in instructions() if own == "COPY" for path in rest.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    assert {"pyproject.toml", "constraints.txt", "src", PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)


def test_the_installation_takes_the_pins_the_extra_and_torch_without_cuda() -> None:
    run, work = rest_of("RUN"), next(rest for own, rest in instructions() if own == "WORKDIR")
    assert f"PIP_CONSTRAINT={work}/constraints.txt PIP_BUILD_CONSTRAINT={work}/constraints.txt" in run
    words = shlex.split(run)
    (target,) = [word for word in words if word.startswith(".[")]
    assert set(target[2:-1].split(",")) <= PROJECT["optional-dependencies"].keys()
    assert words[words.index("--extra-index-url") + 1].endswith("/whl/cpu")


def test_the_server_runs_as_another_user_in_a_folder_that_it_may_write() -> None:
    names = [own for own, _ in instructions()]
    user = rest_of("USER")
    assert re.search(rf"useradd .*\b{user}\b", rest_of("RUN"))
    assert user not in ("root", "0")
    assert names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT")
    assert [rest for own, rest in instructions() if own == "WORKDIR"][-1] == "/tmp"
    assert dict(pair.split("=", 1) for pair in rest_of("ENV").split())["MODALIGN_CACHE"].startswith("/tmp/")


def test_the_command_and_the_health_check_speak_of_one_port_and_an_open_path() -> None:
    command = tomllib.loads(f"words = {rest_of('ENTRYPOINT')}")["words"]
    assert command[:2] == ["modalign", "serve"]
    assert "modalign" in PROJECT["scripts"]
    options = {word for word in command if word.startswith("--")}
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    assert all(option in shown for option in options)
    host, port = (command[command.index(option) + 1] for option in ("--host", "--port"))
    assert rest_of("EXPOSE") == port
    assert not is_loopback(host)  # so that a token is required
    checked = re.search(r"http://([\d.]+:\d+)(/\w+)", rest_of("HEALTHCHECK"))
    assert checked is not None
    assert checked[1] == f"127.0.0.1:{port}"
    assert checked[2] in OPEN_PATHS
    assert Access(host, int(port), "a token of a test").allows_host(checked[1])
