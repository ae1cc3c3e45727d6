"""What to write in place of a name that is not known (no torch)."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a wrong one; None where none is."""
    matches = get_close_matches(wrong, list(known), 1)
    return matches[0] if matches else None


def instead(wrong: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The nearest known name as a question, else `otherwise`, else all that are known."""
    known = list(known)
    near = nearest(wrong, known)
    return f"did you mean {near}?" if near else otherwise or f"write one of {', '.join(known)}"
