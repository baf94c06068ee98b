"""The stand-in for SkyPilot is held against the real one, where that is: every name, parameter and default of it.

The real one is read and not run, so its file is enough: `pip download skypilot==0.14.1 --no-deps`, and its path in
CADDIE_SKYPILOT_WHEEL; or it is installed.
"""

import ast
import importlib.metadata
import os
import zipfile
from pathlib import Path

import pytest

from tests.skying import HERE

OWN = ("standin.py", "__init__.py")  # not of the real one; names that are handed on
MODULES = sorted(str(path.relative_to(HERE)) for path in (HERE / "sky").rglob("*.py") if path.name not in OWN)


@pytest.fixture(scope="module")
def real() -> zipfile.Path | Path:
    """Its folder."""
    if wheel := os.environ.get("CADDIE_SKYPILOT_WHEEL"):
        return zipfile.Path(wheel)
    try:
        return Path(str(importlib.metadata.distribution("skypilot").locate_file("")))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no SkyPilot here, and CADDIE_SKYPILOT_WHEEL names no file of it")


def test_it_is_of_the_version_that_is_asked_for(real: zipfile.Path | Path) -> None:
    asked = (HERE.parents[1] / "pyproject.toml").read_text()
    for text in ((HERE / "sky" / "__init__.py").read_text(), (real / "sky" / "__init__.py").read_text()):
        (version,) = (node.value.value for node in ast.parse(text).body if _names(node) == ["__version__"])  # type: ignore[attr-defined]
        assert f'"skypilot=={version}"' in asked


@pytest.mark.parametrize("module", MODULES)
def test_the_real_one_has_all_that_the_stand_in_has(real: zipfile.Path | Path, module: str) -> None:
    ours, theirs = ast.parse((HERE / module).read_text()), ast.parse((real / module).read_text())
    named = {node.name: node for node in theirs.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    looked = 0
    for node in ours.body:
        if isinstance(node, ast.FunctionDef):
            assert _parameters(node) == _parameters(named[node.name]), node.name  # type: ignore[arg-type]
        elif isinstance(node, ast.ClassDef):
            _same_class(node, named[node.name])  # type: ignore[arg-type]
        looked += isinstance(node, ast.FunctionDef | ast.ClassDef)
    assert looked


def test_the_names_that_are_handed_on(real: zipfile.Path | Path) -> None:
    real_names = _handed_on((real / "sky" / "__init__.py").read_text())
    ours = _handed_on((HERE / "sky" / "__init__.py").read_text())
    modules = {("sky", "exceptions"), ("sky.client", "sdk")}  # imported as such by whoever uses them
    assert len(ours) > 9 and ours - modules <= real_names


def _same_class(ours: ast.ClassDef, theirs: ast.ClassDef) -> None:
    kind = [ast.unparse(base).rpartition(".")[2] for base in ours.bases]
    if ours.name not in ("StatusResponse", "CloudVmRayResourceHandle"):  # a model there; handles have a common base
        assert kind == [ast.unparse(base).rpartition(".")[2] for base in theirs.bases], ours.name
    methods = {node.name: node for node in theirs.body if isinstance(node, ast.FunctionDef)}
    for node in ours.body:
        if isinstance(node, ast.FunctionDef):
            assert _parameters(node) == _parameters(methods[node.name]), f"{ours.name}.{node.name}"
            assert _property(node) == _property(methods[node.name]), f"{ours.name}.{node.name}"
    fields = {name for node in ours.body for name in _names(node)}
    known = {name for node in theirs.body for name in _names(node)}
    assert fields <= known if ours.name == "StatusResponse" else fields == known or not fields, ours.name
    if kind == ["Enum"]:
        assert _values(ours) == _values(theirs)


def _parameters(node: ast.FunctionDef) -> list[tuple[str, str, str]]:
    """Of each its name, its kind, and its default."""
    of = node.args
    plain = [("plain", one) for one in (*of.posonlyargs, *of.args)]
    defaults = [None] * (len(plain) - len(of.defaults)) + list(of.defaults)
    named = [("named", one) for one in of.kwonlyargs]
    pairs = [*zip(plain, defaults, strict=True), *zip(named, of.kw_defaults, strict=True)]
    return [(one.arg, kind, "" if default is None else ast.unparse(default)) for (kind, one), default in pairs]


def _property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(one) == "property" for one in node.decorator_list)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.AnnAssign):
        return [ast.unparse(node.target)]
    return [ast.unparse(one) for one in node.targets] if isinstance(node, ast.Assign) else []


def _values(node: ast.ClassDef) -> dict[str, str]:
    return {ast.unparse(one.targets[0]): ast.unparse(one.value) for one in node.body if isinstance(one, ast.Assign)}


def _handed_on(text: str) -> set[tuple[str, str]]:
    return {
        (str(node.module), one.name)
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }
