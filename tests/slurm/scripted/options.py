"""The command lines of the scripted Slurm."""

import argparse

SHORT = dict(J="job-name", p="partition", t="time", N="nodes", n="ntasks", c="cpus-per-task", a="array", d="dependency")
SHORT |= dict(
    o="output", e="error", A="account", C="constraint", D="chdir", G="gpus", q="qos", w="nodelist", x="exclude"
)
SHORT |= dict(H="hold", Q="quiet")
FLAGS = {"hold", "parsable", "requeue", "no-requeue", "exclusive", "overcommit", "quiet", "unbuffered"}


class Refused(Exception):
    """Printed to standard error; the command ends with 1."""


def options_of(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options by their long names, and what stands after them (the script and its arguments)."""
    options, words = {}, list(words)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        else:
            name, value = SHORT.get(word[1]), word[2:]
            equals = bool(value)
        if name is None:
            raise Refused(f"invalid option -- '{word[1:]}'")
        if not equals and name not in FLAGS:
            value = words.pop(0)
        options[name] = value
    return options, words


class Options:
    """Options with a short and a long name: pairs are flags, keywords take a value. `--me` is always understood."""

    def __init__(self, *flags: tuple[str, str], **values: str):
        self.parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for letter, name in flags:
            self.parser.add_argument(f"-{letter}", f"--{name}", dest=name, action="store_true")
        self.parser.add_argument("--me", action="store_true")
        self.extended(**values)

    def extended(self, **values: str) -> "Options":
        for letter, name in values.items():
            # sacct's -j may be given again and again.
            self.parser.add_argument(f"-{letter}", f"--{name}", dest=name, action="append")
        return self

    def parse(self, words: list[str]) -> argparse.Namespace:
        asked = self.parser.parse_args(words)
        for name, value in vars(asked).items():
            if isinstance(value, list):
                setattr(asked, name, ",".join(value))
        return asked

    def parse_with_rest(self, words: list[str]) -> tuple[argparse.Namespace, list[str]]:
        self.parser.add_argument("ids", nargs="*")
        asked = self.parser.parse_intermixed_args(words)
        for name, value in vars(asked).items():
            if isinstance(value, list) and name != "ids":
                setattr(asked, name, ",".join(value))
        return asked, asked.ids
