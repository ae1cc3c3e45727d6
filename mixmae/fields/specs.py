"""Specs: what the program knows of the things that a config can name, found and not registered (no torch).

A spec is an object with a name: `SPEC` in the module `spec` of a sub-package of one of a few packages. What the rest of
the program needs to know of a method, an encoder family, a source of data, a stage or a kind of plot, it asks the spec.
Plug-ins are specs that an installed distribution names as an entry point, or that a config names as
`package.module:OBJECT`; a spec's own name is what configs write.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from importlib.util import find_spec
from inspect import get_annotations
from pathlib import Path
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


@dataclass(frozen=True)
class PluginOrigin:
    """Where a plug-in comes from. distribution: its name and version, None where it belongs to none. sha256: of the
    file of its module."""

    distribution: str | None
    sha256: str


class UnknownName(ValueError):
    """No spec has that name; the message says what to write instead."""


class Specs(Generic[S_co]):
    """The specs of one kind. what: the word for it in messages; protocol: what each of them has. packages: whose
    sub-packages hold them; group: of the entry points that name more.

    Nothing is imported before the first look, and a plug-in not before a config names it: a program that only reads
    runs knows it by what `stand_in` was given, or not at all.
    """

    def __init__(self, what: str, protocol: type, group: str, *packages: str):
        self.what, self._protocol, self._group, self._packages = what, protocol, group, packages
        self._plugged_in: dict[str, S_co] = {}
        self._stand_ins: dict[str, S_co] = {}

    @cached_property
    def _own(self) -> dict[str, S_co]:
        specs = [resolve(f"{place}:SPEC") for package in self._packages for place in _places(package)]
        return {spec.name: spec for spec in sorted(specs, key=lambda spec: (spec.order, spec.name))}

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in sorted(entry_points(group=self._group), key=lambda entry: entry.name)}

    def __iter__(self) -> Iterator[S_co]:
        """Yields those of this program, then those of plug-ins that were asked for, or that something stands in for."""
        return iter({**self._own, **self._stand_ins, **self._plugged_in}.values())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def names(self) -> list[str]:
        """What a config can write, installed plug-ins included."""
        return list(dict.fromkeys([*self._own, *self._plugged_in, *self._entries]))

    def get(self, name: str) -> S_co | None:
        """The spec of that name; None where it is of a plug-in that nothing here has asked for, or of a newer version.
        Imports no plug-in."""
        return self._own.get(name) or self._plugged_in.get(name) or self._stand_ins.get(name)

    def __getitem__(self, name: str) -> S_co:
        """The spec of that name, or the object that `package.module:OBJECT` names. Raises UnknownName."""
        if name in self._own:
            return self._own[name]
        if name not in self._plugged_in:
            self._plugged_in[name] = self._imported(name)
        return self._plugged_in[name]

    def _imported(self, name: str) -> S_co:
        entry = self._entries.get(name)
        if entry is None and ":" not in name:
            raise UnknownName(f"no {self.what} {name!r}; {instead(name, self.names())}")
        try:
            spec: S_co = entry.load() if entry else resolve(name)
            self._check(spec, name)
        except Exception as error:  # whatever a plug-in does when it is imported
            do = "mend or uninstall it" if entry else "mend it, or what names it"
            if isinstance(error, ModuleNotFoundError) and f"{name.split(':')[0]}.".startswith(f"{error.name}."):
                do = "install its package, or put its folder on PYTHONPATH"
            raise UnknownName(f"no {self.what} {name!r}: {error}; {do}") from error
        return spec

    def _check(self, spec: Any, name: str) -> None:
        """Raises ValueError where `spec` cannot be one of these."""
        if isinstance(spec, type):
            raise ValueError(f"it is a class; write SPEC = {spec.__name__}()")
        there = dir(spec)
        if "name" not in there:
            kind = type(spec).__name__
            raise ValueError(
                f"it is a {kind} and no spec; name an object of a class that extends {self._protocol.__name__}"
            )
        members = {name for base in self._protocol.__mro__ for name in get_annotations(base)}
        if missing := sorted(members - set(dir(self._protocol)) - set(there)):
            raise ValueError(f"it has no {' and no '.join(missing)}")
        if spec.name != name:
            raise ValueError(f"it calls itself {spec.name!r}")
        if "version" in there and type(spec.version) is not int:
            raise ValueError(f"its version is {spec.version!r}, which is no whole number")

    def load_installed(self) -> None:
        """Imports every installed plug-in. Raises UnknownName."""
        for name in self._entries:
            self[name]

    def is_plugged_in(self, name: str) -> bool:
        """Whether the name is not one of this program's own."""
        return name not in self._own

    def origin(self, name: str) -> PluginOrigin:
        """Where a plug-in comes from."""
        entry = self._entries.get(name)
        module = entry.module if entry else name.split(":")[0]
        file = find_spec(module)
        content = Path(file.origin).read_bytes() if file and file.origin else b""
        return PluginOrigin(_distribution(module, entry), hashlib.sha256(content).hexdigest())

    def stand_in(self, spec: S_co) -> None:  # type: ignore[misc]
        """Lets `spec` stand in for the plug-in of its name, where that is not imported: what runs say of it."""
        if spec.name not in self._own:
            self._stand_ins[spec.name] = spec


@cache
def _distribution(module: str, entry: EntryPoint | None) -> str | None:
    if entry is not None and entry.dist is not None:
        return f"{entry.dist.name} {entry.dist.version}"
    names = packages_distributions().get(module.split(".")[0], [])
    return f"{names[0]} {version(names[0])}" if names else None


def _places(package: str) -> Iterator[str]:
    """The modules `spec` of the sub-packages of a package."""
    for module in iter_modules(import_module(package).__path__, f"{package}."):
        if module.ispkg and find_spec(f"{module.name}.spec"):
            yield f"{module.name}.spec"


def resolve(dotted: str) -> Any:
    """The object behind `package.module:NAME`."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
