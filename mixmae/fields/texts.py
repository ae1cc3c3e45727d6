"""Numbers in words and units (no torch)."""

_PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6))


def many(count: int, noun: str) -> str:
    """1, "task" -> "1 task"; 2, "task" -> "2 tasks"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def prefix(value: float, least: str = "") -> tuple[str, float]:
    """The letter and the size of the largest unit of which there is one or more: ("T", 1e12); ("", 1.0) below a
    million.

    least: the smallest letter that may be taken, also where there is less than one of it, or where the value is NaN.
    """
    fitting = next((pair for pair in _PREFIXES if value >= pair[1]), ("", 1.0))
    floor = next((pair for pair in _PREFIXES if pair[0] == least), ("", 1.0))
    return fitting if fitting[1] >= floor[1] else floor


def with_prefix(value: float) -> str:
    """1.23e12 -> "1.23 T"."""
    letter, unit = prefix(value)
    return f"{rounded(value / unit)} {letter}".strip()


def bytes_of(number: float) -> str:
    """3 * 2**30 -> "3 GiB"; at least MiB."""
    units = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20))
    unit, size = next((pair for pair in units if number >= pair[1]), units[-1])
    return f"{rounded(number / size)} {unit}"


def rounded(value: float) -> str:
    """Rounds to three digits, large numbers to whole ones."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
