"""The published checkpoints: where they are, what they should score, and what their constructors took (no torch)."""

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def checkpoints() -> list[dict[str, Any]]:
    """One entry a published file, as published.yaml explains."""
    text = resources.files("mixmae.weights").joinpath("published.yaml").read_text("utf-8")
    return yaml.safe_load(text)["checkpoints"]


def completion(kind: str, found: dict[str, Any], missing: list[str]) -> tuple[str, dict[str, Any] | None]:
    """The name of a published model of this kind that agrees with all of `found`, and its values of `missing`.

    None where there is no such model, or where two differ in what is missing.
    """
    agreeing = [one for one in checkpoints() if one["kind"] == kind and _agrees(one["config"], found)]
    values = [{name: one["config"][name] for name in missing} for one in agreeing]
    if not values or any(other != values[0] for other in values):
        return "", None
    return agreeing[0]["name"], values[0]


def _agrees(config: dict[str, Any], found: dict[str, Any]) -> bool:
    return all(_plain(config.get(name, value)) == _plain(value) for name, value in found.items())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
