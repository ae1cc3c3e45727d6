"""What `mixmae doctor` finds, and how it is said (no torch)."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

CLOCKS_S = 5.0
"""How far two clocks may be apart."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, in a word, what was seen, and what to do; no advice where nothing has to be done."""

    level: Literal["ok", "warn", "fail"]
    about: str
    said: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.level:<4}  {self.about}: {self.said}" + (f". {self.advice}" if self.advice else "")

    def document(self) -> dict[str, Any]:
        return asdict(self)


def ok(about: str, said: str) -> Finding:
    return Finding("ok", about, said)


def warn(about: str, said: str, advice: str) -> Finding:
    return Finding("warn", about, said, advice)


def fail(about: str, said: str, advice: str) -> Finding:
    return Finding("fail", about, said, advice)
