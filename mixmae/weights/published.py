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


def lines() -> list[str]:
    """The checkpoints as text: name and figures, where the file is, what to type."""
    found = []
    for one in checkpoints():
        about = [f"{one['counted_m']} M parameters"] + ([f"{one['top1']} top-1"] if one["top1"] else [])
        found.append(f"{one['name']} ({', '.join(about)})")
        found += [f"  {one['repository']}: {one['file']}", *(f"    {command}" for command in commands(one))]
    return found


def markdown() -> str:
    """The checkpoints as a Markdown table."""
    rows = [
        "| checkpoint | repository | file | parameters, M | top-1, % | commands |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in checkpoints():
        params = f"{one['counted_m']}" + (f" (published: {one['params_m']})" if one["params_m"] else "")
        typed = "<br>".join(f"`{command}`" for command in commands(one))
        cells = (one["name"], one["repository"], one["file"], params, str(one["top1"] or "not stated"), typed)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def commands(checkpoint: dict[str, Any]) -> list[str]:
    """What a user types to import a published checkpoint that was fetched as FILE, and to evaluate it."""
    encoder_only = " --encoder-only" if "encoder only" in checkpoint["name"] else ""
    first = f"mixmae weights import FILE --as {checkpoint['kind']}{encoder_only} -o OUT.safetensors"
    if "eval_crop" in checkpoint:
        crop = f" --eval-crop {checkpoint['eval_crop']}" if checkpoint["eval_crop"] != 0.875 else ""
        return [first, f"mixmae weights evaluate OUT.safetensors --data DIR{crop}"]
    if checkpoint["recipe"] is None:
        return [first]
    method = "{name: imported, path: OUT.safetensors}"
    return [first, f"mixmae run FILE.yaml  # base: {checkpoint['recipe']}, method: {method}, data: {{path: DIR}}"]


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
