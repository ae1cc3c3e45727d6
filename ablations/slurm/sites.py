"""Site profiles: what jobs ask of one cluster, once for all grids, in ~/.config/mixmae/sites/NAME.yaml (no torch)."""

import os
from pathlib import Path

from mixmae.fields.documents import ConfigError, Mark, Value, load
from mixmae.fields.nearest import instead


def sites_folder() -> Path:
    """`mixmae/sites` in XDG_CONFIG_HOME, else in ~/.config."""
    # The XDG specification: a relative path there is to be ignored.
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    return (config if config.is_absolute() else Path.home() / ".config") / "mixmae" / "sites"


def sites() -> list[str]:
    """The names of the profiles there are."""
    return sorted(path.stem for path in sites_folder().glob("*.yaml"))


def site_profile(name: str, mark: Mark | None = None) -> Value:
    """The document of the profile `name`; `mark`: where the name was written. Raises ConfigError."""
    known = sites()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there are none yet"
        what = instead(name, known, f"{there}; write {sites_folder() / (name + '.yaml')}")
        what = f"no site profile {name!r}; {what}"
        raise mark.error(what, ("resources", "slurm", "site")) if mark else ConfigError([what])
    document = load(sites_folder() / f"{name}.yaml")
    if not isinstance(document.data, dict):
        raise document.mark.error("expected a site profile: lines such as partition: gpu")
    return document
