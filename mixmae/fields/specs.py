"""Specs: what the program knows of the things that a config can name, found and not registered (no torch).

A spec is an object with a name: `SPEC` in the module `spec` of a sub-package of one of a few packages. What the rest of
the program needs to know of a method, an encoder family, a source of data, a stage or a kind of plot, it asks the spec.
Others are found where a distribution names them as an entry point, or where a config names one as
`package.module:OBJECT`.
"""

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, Generic, Protocol, TypeVar

from mixmae.fields.nearest import instead


class Spec(Protocol):
    """What every spec has."""

    @property
    def name(self) -> str:
        """As a config writes it."""

    @property
    def label(self) -> str:
        """As tables and plots show it."""

    @property
    def order(self) -> int:
        """Its place in lists; those of plug-ins come last."""


S_co = TypeVar("S_co", bound=Spec, covariant=True)


class UnknownName(ValueError):
    """No spec has that name; the message says what to write instead."""


class Specs(Generic[S_co]):
    """The specs of one kind. what: the word for it in messages. packages: whose sub-packages hold them; group: of the
    entry points that name more. Nothing is imported before the first look."""

    def __init__(self, what: str, group: str, *packages: str):
        self.what, self._group, self._packages = what, group, packages

    @cached_property
    def _by_name(self) -> dict[str, S_co]:
        found = [resolve(f"{place}:SPEC") for package in self._packages for place in _places(package)]
        found.sort(key=lambda spec: (spec.order, spec.name))
        found += [entry.load() for entry in sorted(entry_points(group=self._group), key=lambda entry: entry.name)]
        return {spec.name: spec for spec in found}

    def __iter__(self) -> Iterator[S_co]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def names(self) -> list[str]:
        return list(self._by_name)

    def get(self, name: str) -> S_co | None:
        """The spec of that name; None where it is of a plug-in that is not installed here, or of a newer version."""
        return self._by_name.get(name)

    def __getitem__(self, name: str) -> S_co:
        """The spec of that name, or the object that `package.module:OBJECT` names. Raises UnknownName."""
        if name in self._by_name:
            return self._by_name[name]
        if ":" in name:
            return self._plugged_in(name)
        raise UnknownName(f"no {self.what} {name!r}; {instead(name, self.names())}")

    def _plugged_in(self, name: str) -> S_co:
        try:
            return resolve(name)
        except (ImportError, AttributeError, ValueError) as error:
            what = f"no {self.what} {name!r}: {error}; install its package, or put its folder on PYTHONPATH"
            raise UnknownName(what) from None


def _places(package: str) -> Iterator[str]:
    """The modules `spec` of the sub-packages of a package."""
    for found in iter_modules(import_module(package).__path__, f"{package}."):
        if found.ispkg and find_spec(f"{found.name}.spec"):
            yield f"{found.name}.spec"


def resolve(dotted: str) -> Any:
    """The object behind `package.module:NAME`."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
