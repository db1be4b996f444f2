"""What is public is what `__all__` says, in order, and it is there."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.resources import files
from pkgutil import walk_packages

import pytest

FACES = ["dspy_actors", "supervisors"]


def faces() -> list[str]:
    """The packages that have an `__all__`, below and including ours."""
    found = []
    for face in FACES:
        package = importlib.import_module(face)
        inner = [info.name for info in walk_packages(package.__path__, f"{face}.") if info.ispkg]
        found += [name for name in [face, *inner] if hasattr(importlib.import_module(name), "__all__")]
    return found


def in_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff's RUF022 keeps."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", faces())
def test_all_is_sorted_and_names_nothing_twice(name: str) -> None:
    public = list(importlib.import_module(name).__all__)
    assert public == sorted(set(public), key=in_order)


@pytest.mark.parametrize("name", faces())
def test_everything_public_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


@pytest.mark.parametrize("name", FACES)
def test_the_package_says_that_it_is_typed(name: str) -> None:
    assert files(name).joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", FACES)
def test_the_package_has_a_public_face(name: str) -> None:
    assert importlib.import_module(name).__all__


def test_a_name_loads_its_own_file_and_what_that_needs() -> None:
    code = "import dspy_actors, sys; dspy_actors.Secret; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.split()
    assert "dspy_actors.secret" in loaded
    assert [name for name in loaded if name.startswith(("dspy_actors.runtime", "supervisors", "pydantic"))] == []


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    face = importlib.import_module("dspy_actors")
    with pytest.raises(AttributeError, match="no attribute 'Predictor'"):
        _ = face.Predictor
