"""Methods and encoders of other packages: names that are free, packages that fail, and models that need them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modalign as ma
from modalign.cli.overview import listing
from modalign.core.errors import InputError, UnavailableError, UnknownNameError
from modalign.core.registration import Registry
from modalign.encoders.registry import EMBEDDED, OTHER_ENCODERS
from modalign.methods import ALL_METHODS, OTHER_METHODS, method_class, name_of, vector_methods
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.persistence import load_model, save_model

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(30, 8)).astype(np.float32), np.arange(30) % 3


@dataclass(kw_only=True, eq=False, repr=False)
class Mine(ZeroShot):
    """Zero-shot under another name."""

    title = "Mine"


class Unfinished(VectorMethod):
    """A method without scores."""

    def _fit(self, problem: object) -> None: ...


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OTHER_METHODS, "registered", {})
    monkeypatch.setattr(OTHER_ENCODERS, "registered", {})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a package with one module and entry points where Python finds it; remove it afterwards."""
    before = set(sys.modules)

    def write(package: str, code: str, points: dict[str, str], group: str = "modalign.methods") -> None:
        site = tmp_path / f"site-{package}"
        info = site / f"{package}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        entries = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")
        (site / f"{package}.py").write_text(code)
        monkeypatch.syspath_prepend(site)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


GOOD = """
from dataclasses import dataclass
from modalign.methods.baselines.zero_shot import ZeroShot

@dataclass(kw_only=True, eq=False, repr=False)
class Theirs(ZeroShot):
    title = "Theirs"
"""


def test_a_registered_method_is_found_saved_and_loaded_by_its_name(tmp_path: Path) -> None:
    ma.register_method("Mine", Mine)
    assert method_class("mine") is Mine
    assert name_of(Mine) == "mine"
    assert name_of(ZeroShot) == "zero_shot"
    assert vector_methods()[-1] == "mine"
    assert listing("methods")[1][-1][:2] == ["mine", "Mine"]
    folder = save_model(tmp_path / "model", Mine().fit(X, Y))
    assert json.loads((folder / "card.json").read_text())["method"] == "mine"
    again, _ = load_model(folder)
    assert type(again) is Mine
    OTHER_METHODS.registered.clear()
    with pytest.raises(InputError, match=r"needs the method 'mine', which no installed package has; call modalign"):
        load_model(folder)


def test_a_method_without_a_name_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got Mine, which could not be loaded again; call modalign\.register_method"):
        save_model(tmp_path / "model", Mine().fit(X, Y))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "cls", "said"),
    [
        ("cmm", Mine, "'cmm' is part of modalign; choose another name"),
        ("Zero-Shot", Mine, "'zero_shot' is part of modalign"),
        ("my method", Mine, "Expected a name of letters, digits and underscores for a method, got 'my method'"),
        ("mine", object, "cannot be registered: expected a subclass of VectorMethod or TowerMethod"),
        ("mine", Mine(), "cannot be registered: expected a subclass of VectorMethod or TowerMethod"),
        ("mine", Unfinished, "expected Unfinished to define _scores"),
    ],
)
def test_what_cannot_be_registered(name: str, cls: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ma.register_method(name, cls)
    assert not OTHER_METHODS.registered


def test_a_name_is_registered_once_but_a_class_may_be_defined_again() -> None:
    ma.register_method("mine", Mine)
    with pytest.raises(InputError, match=r"'mine' is registered already, as .*Mine"):
        ma.register_method("mine", ZeroShot)
    again = type("Mine", (ZeroShot,), {"__module__": Mine.__module__, "__qualname__": "Mine"})
    ma.register_method("mine", again)
    assert method_class("mine") is again


def test_the_methods_of_an_installed_package_are_found(install: Callable[..., None], tmp_path: Path) -> None:
    install("theirs", GOOD, {"Their-Method": "theirs:Theirs"})
    assert "theirs" not in sys.modules
    assert "their_method" in OTHER_METHODS
    assert "theirs" not in sys.modules  # asking for a name imports nothing
    cls = method_class("their-method")
    assert cls.__module__ == "theirs"
    assert OTHER_METHODS.package("their_method") == "theirs 1.2"
    again, _ = load_model(save_model(tmp_path / "model", cls().fit(X, Y)))
    assert type(again) is cls
    with pytest.raises(InputError, match="package 'theirs' has a method 'their_method' already"):
        ma.register_method("their_method", Mine)
    ma.register_method("their_method", cls)  # the same one


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemError", "SystemError"),
        ("Theirs = 3", "expected a subclass of VectorMethod or TowerMethod, got 3"),
        ("", "AttributeError: "),
    ],
)
def test_a_package_that_fails_costs_its_own_names_only(install: Callable[..., None], code: str, said: str) -> None:
    install("broken", code, {"theirs": "broken:Theirs"})
    with pytest.raises(InputError, match=f"'theirs' of the package 'broken' cannot be used: {re.escape(said)}"):
        method_class("theirs")
    with pytest.warns(UserWarning, match=r"'broken' cannot be used: .* It is left out\."):
        _, rows = listing("methods")
    assert [row[0] for row in rows] == list(ALL_METHODS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method_class("zero_shot")().fit(X, Y).predict(X).shape == (30,)
        assert name_of(ZeroShot) == "zero_shot"
        with pytest.raises(UnknownNameError, match="did you mean 'theirs'"):
            method_class("thiers")


def test_a_name_of_the_library_stays_its_own(install: Callable[..., None]) -> None:
    install("taker", GOOD, {"zero-shot": "taker:Theirs"})
    assert method_class("zero_shot") is ZeroShot
    with pytest.warns(UserWarning, match="package 'taker' has a method 'zero_shot', which is the name of one"):
        _, rows = listing("methods")
    assert [row[0] for row in rows] == list(ALL_METHODS)


def test_two_packages_with_one_name_are_both_named(install: Callable[..., None]) -> None:
    install("first", GOOD, {"theirs": "first:Theirs"})
    install("second", GOOD, {"theirs": "second:Theirs"})
    with pytest.raises(InputError, match="packages 'first' and 'second' both have a method 'theirs'; uninstall one"):
        method_class("theirs")


def test_nothing_is_looked_up_on_import_or_for_names_of_the_library() -> None:
    code = (
        "import sys, modalign; from modalign.methods import location; location('cmm'); "
        "print('importlib.metadata' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout.strip() == "False"


@given(st.text(max_size=8))
def test_any_name_can_be_queried_safely(name: str) -> None:
    registry = Registry("thing", "modalign.none", ("one",), lambda thing: thing)
    assert name not in registry
    try:
        registry.register(name, 1)
    except InputError:
        assert registry.names() == []
    else:
        assert name in registry
        assert registry.get(name) == 1
        assert registry.get(name.upper()) == 1


def test_only_a_class_of_a_module_is_compared_in_other_processes() -> None:
    """They do not run the caller's script."""
    from modalign.evaluate.parallel_runs import _importable

    assert _importable(Mine)
    assert not _importable(type("Local", (Mine,), {"__qualname__": "test.<locals>.Local"}))
    assert not _importable(type("Script", (Mine,), {"__module__": "__main__"}))


def test_a_folder_of_an_encoder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    folder = shutil.copytree(EMBEDDED["tiny"], tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()  # a folder of that name does not stand in its way
    ma.register_encoder("ours", "weights")
    assert listing("encoders")[1][-1][0] == "ours"
    monkeypatch.chdir(photos)
    found = ma.load_encoder("Ours", cache=False, dtype="float32")
    tiny = ma.load_encoder("tiny", cache=False, dtype="float32")
    assert found.spec.name == "ours"
    assert found.spec.fingerprint == tiny.spec.fingerprint
    assert OTHER_ENCODERS.registered["ours"] == folder
    joined = ma.load_encoder("tiny-vision+ours", cache=False, dtype="float32")
    assert joined.name == "tiny-vision+ours"


def test_a_function_makes_an_encoder_that_a_model_finds_again(tmp_path: Path, photos: Path, own_cache: None) -> None:
    from modalign.encoders import VisionEncoder
    from modalign.encoders.catalog import locate
    from modalign.encoders.checkpoint import Checkpoint

    def ours(*, device, store):
        checkpoint = Checkpoint.open(locate("tiny-vision"))
        hashed = "other" + checkpoint.weights_hash(None)
        return VisionEncoder(
            "any", checkpoint.load(), checkpoint.preprocessing(), weights_hash=hashed, device=device, store=store
        )

    ma.register_encoder("ours", ours)
    model = ma.adapt(photos, encoder="ours", method="linear_probe", shots=4)
    assert model.encoder.name == "ours"
    again = ma.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(photos).probabilities, model.predict(photos).probabilities)
    OTHER_ENCODERS.registered.clear()
    with pytest.raises(UnavailableError, match="Expected encoder 'ours'"):
        ma.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no/such/folder", "cannot be registered: expected the folder of an encoder"),
        (3, "expected a folder or a function that returns an encoder, got 3"),
    ],
)
def test_what_is_no_encoder_cannot_be_registered(source: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ma.register_encoder("ours", source)


def test_an_encoder_that_fails_raises(install: Callable[..., None]) -> None:
    code = "def broken(**_):\n    raise KeyError('weights')\ndef wrong(**_):\n    return 3\n"
    install("eyes", code, {"broken": "eyes:broken", "wrong": "eyes:wrong"}, group="modalign.encoders")
    with pytest.raises(InputError, match="The encoder 'broken' of another package cannot be loaded: 'weights'"):
        ma.load_encoder("broken", cache=False)
    with pytest.raises(InputError, match="Expected an Encoder from the function of 'wrong', got int"):
        ma.load_encoder("wrong", cache=False)
    with pytest.raises(UnknownNameError, match="did you mean 'broken'"):
        ma.load_encoder("brokem", cache=False)
    assert [row[1] for row in listing("encoders")[1][-2:]] == ["package eyes 1.2"] * 2
