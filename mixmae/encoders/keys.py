"""How the parameter names of an official implementation become ours (no torch here)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SHOWN = 5
"""Names listed in an error before the rest are only counted."""


@dataclass(frozen=True)
class KeyMap:
    """The map of names of one kind of official state dict.

    Patterns are regular expressions that match a whole official name; the first that does decides.
    renames: what the name becomes, as `re` replaces it or as a function of the match. recomputed: tensors that our
    model makes by itself. refused: tensors that mean a model we do not have, and why.
    """

    renames: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    recomputed: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    def translated(self, names: Iterable[str], kind: str) -> tuple[dict[str, str], list[str]]:
        """Returns ({official: ours}, the official names that are recomputed).

        Raises ValueError naming what is in neither, with the reason where one is known.
        """
        mapped, recomputed, unknown = {}, [], []
        for name in names:
            if any(re.fullmatch(pattern, name) for pattern in self.recomputed):
                recomputed.append(name)
            elif reason := next((why for pattern, why in self.refused if re.fullmatch(pattern, name)), None):
                raise ValueError(f"{name}: {reason}")
            elif (ours := self._renamed(name)) is not None:
                mapped[name] = ours
            else:
                unknown.append(name)
        if unknown:
            raise ValueError(f"not the weights of a {kind}: it has no {some(unknown)}")
        return mapped, recomputed

    def official_names(self, names: Iterable[str], kind: str) -> dict[str, str]:
        """Returns {ours: official} for the official names of a `kind`."""
        return {ours: name for name, ours in self.translated(names, kind)[0].items()}

    def _renamed(self, name: str) -> str | None:
        for pattern, replacement in self.renames:
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
        return None


def some(names: list[str]) -> str:
    """Lists the first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
