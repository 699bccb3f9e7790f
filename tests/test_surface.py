"""The public surface is small, quiet to import, and documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import modalign
import modalign.encoders
from modalign.core.errors import InputError, UnknownNameError, require
from modalign.methods import ALL_METHODS, METHODS, method_class


def test_surface_is_small_and_complete() -> None:
    methods = {method_class(name).__name__ for name in ALL_METHODS}
    assert methods < set(modalign.__all__)
    assert len(set(modalign.__all__) - methods) <= 25
    for name in modalign.__all__:
        assert getattr(modalign, name) is not None
    assert dir(modalign) == sorted(modalign.__all__)


@pytest.mark.parametrize("package", [modalign, modalign.encoders])
def test_type_checkers_find_the_names_that_are_imported_on_first_use(package: ModuleType) -> None:
    """All but the methods, whose names follow from their table."""
    tree = ast.parse(inspect.getsource(package))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {name.asname: (found.module, name.name) for found in block.body for name in found.names}
    methods = {method_class(name).__name__ for name in ALL_METHODS}
    assert set(seen) == set(package.__all__) - methods - {"__version__", "KNOWN_ENCODERS"}
    for name, (module, own) in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), own), name


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'adept'"):
        modalign.adept  # noqa: B018
    assert not hasattr(modalign, "__wrapped__")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("lfa", "LFA"), ("tip_adapter_f", "TipAdapterF"), ("fewshot", "few_shot"), ("Clasifier", "Classifier")],
)
def test_unknown_attribute_gets_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"Did you mean '{meant}'"):
        getattr(modalign, typed)


def test_import_is_quiet_and_loads_no_heavy_package() -> None:
    code = (
        "import sys, modalign; "
        "print(sorted(m for m in ('torch', 'sklearn', 'transformers', 'numpy', 'PIL', 'rich') if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert run.stderr == ""


def test_command_line_help_loads_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from modalign.cli import app; "
        "assert CliRunner().invoke(app, ['fit', '--help']).exit_code == 0; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("name", modalign.__all__[1:])
def test_every_public_name_is_documented_and_annotated(name: str) -> None:
    thing = getattr(modalign, name)
    assert inspect.getdoc(thing)
    functions = (
        [thing]
        if inspect.isfunction(thing)
        else [member for key, member in vars(thing).items() if inspect.isfunction(member) and not key.startswith("_")]
    )
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        for parameter in signature.parameters.values():
            assert parameter.name in ("self", "cls") or parameter.annotation is not inspect.Parameter.empty, function


@pytest.mark.parametrize("name", METHODS)
def test_every_method_describes_itself(name: str) -> None:
    from modalign.methods.contract.parameters import parameters

    cls = method_class(name)
    assert cls.title
    assert cls.paper
    undocumented = [p.name for p in parameters(cls) if not p.meaning]
    assert not undocumented


def test_unknown_names_get_the_nearest_known_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cmm'"):
        method_class("cm")


def test_the_error_for_a_missing_extra_has_the_install_command() -> None:
    with pytest.raises(ImportError, match=r"pip install 'modalign\[plot\]'"):
        require("no_such_package", "plot")


def test_errors_of_ours_are_also_the_builtin_kind() -> None:
    assert issubclass(InputError, ValueError)
