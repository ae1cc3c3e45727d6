"""The official recipes: partial experiments to build on as `base: NAME`, and what their headers say (no torch).

A recipe's header is the comment it starts with: a title, then fields such as Reproduces, Accuracy, Hardware, Differs
(what this project does otherwise, knowingly) and Approximate (what could not be read in any source, so that the result
may be another).
"""

from importlib import resources


def names() -> list[str]:
    """Every recipe's name, sorted."""
    files = (file.name for file in resources.files(__package__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def header(name: str) -> dict[str, str]:
    """The header of a recipe: `name`, `title`, and its fields in lower case, each on one line.

    Raises FileNotFoundError where there is no such recipe.
    """
    return {"name": name, **header_of(resources.files(__package__).joinpath(f"{name}.yaml").read_text("utf-8"))}


def header_of(text: str) -> dict[str, str]:
    """The header of a file with this text: `title`, and its fields in lower case, each on one line."""
    title, *lines = _comment(text)
    fields = {"title": title.removesuffix(".")}
    field = None
    for line in lines:
        label, text = line[:14].strip(), line[14:].strip()
        if label and line[:14].endswith("  "):
            field = label.lower()
            fields[field] = text
        elif field and not label and text:
            fields[field] += f" {text}"
        else:
            field = None
    return fields


def _comment(text: str) -> list[str]:
    """The lines of the comment that `text` starts with, without their `# `."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines
