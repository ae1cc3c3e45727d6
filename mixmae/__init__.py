"""MixMAE and the machinery it shares with its rivals. Importing this package loads no torch."""

__version__ = "0.1.0"
