"""Pickles as an attacker writes them."""


class Runs:
    """Unpickled plainly, calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
