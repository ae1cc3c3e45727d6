"""The published checkpoints: where they are, what they should score, and what their constructors took (no torch)."""

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def checkpoints() -> list[dict[str, Any]]:
    """Returns one entry for each published file, as published.yaml explains."""
    text = resources.files("mixmae.weights").joinpath("published.yaml").read_text("utf-8")
    return yaml.safe_load(text)["checkpoints"]


def lines() -> list[str]:
    """Lists the checkpoints as text: name and figures, where the file is, what to type."""
    text = []
    for entry in checkpoints():
        about = [f"{entry['counted_m']} M parameters"] + ([f"{entry['top1']} top-1"] if entry["top1"] else [])
        text.append(f"{entry['name']} ({', '.join(about)})")
        text += [f"  {entry['repository']}: {entry['file']}", *(f"    {command}" for command in commands(entry))]
    return text


def markdown() -> str:
    """Writes the checkpoints as a Markdown table."""
    rows = [
        "| checkpoint | repository | file | parameters, M | top-1, % | commands |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for entry in checkpoints():
        params = f"{entry['counted_m']}" + (f" (published: {entry['params_m']})" if entry["params_m"] else "")
        typed = "<br>".join(f"`{command}`" for command in commands(entry))
        cells = (entry["name"], entry["repository"], entry["file"], params, str(entry["top1"] or "not stated"), typed)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def commands(checkpoint: dict[str, Any]) -> list[str]:
    """Returns what a user types to import a published checkpoint that was fetched as FILE, and to evaluate it."""
    encoder_only = " --encoder-only" if "encoder only" in checkpoint["name"] else ""
    first = f"mixmae weights import FILE --as {checkpoint['kind']}{encoder_only} -o OUT.safetensors"
    if "eval_crop" in checkpoint:
        crop = f" --eval-crop {checkpoint['eval_crop']}" if checkpoint["eval_crop"] != 0.875 else ""
        return [first, f"mixmae weights evaluate OUT.safetensors --data DIR{crop}"]
    if checkpoint["recipe"] is None:
        return [first]
    method = "{name: imported, path: OUT.safetensors}"
    return [first, f"mixmae run FILE.yaml  # base: {checkpoint['recipe']}, method: {method}, data: {{path: DIR}}"]


def completion(kind: str, config: dict[str, Any], missing: list[str]) -> tuple[str, dict[str, Any] | None]:
    """Returns the name of a published model of this kind that agrees with all of `config`, and its values of `missing`.

    The values are None where there is no such model, or where two differ in what is missing.
    """
    agreeing = [entry for entry in checkpoints() if entry["kind"] == kind and _agrees(entry["config"], config)]
    values = [{name: entry["config"][name] for name in missing} for entry in agreeing]
    if not values or any(other != values[0] for other in values):
        return "", None
    return agreeing[0]["name"], values[0]


def _agrees(published: dict[str, Any], config: dict[str, Any]) -> bool:
    return all(_plain(published.get(name, value)) == _plain(value) for name, value in config.items())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
