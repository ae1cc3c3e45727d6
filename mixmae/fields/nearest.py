"""What to write in place of a name that is not known (no torch)."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a wrong one, else most like it but for capitals; None where none is."""
    known = list(known)
    if matches := get_close_matches(wrong, known, 1):
        return matches[0]
    small = {name.lower(): name for name in known}
    matches = get_close_matches(wrong.lower(), small, 1)
    return small[matches[0]] if matches else None


def instead(wrong: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The nearest known name as a question, else `otherwise`, else all that are known."""
    known = list(known)
    near = nearest(wrong, known)
    return f"did you mean {near}?" if near else otherwise or f"write one of {', '.join(known)}"
