"""Stand-ins for Slurm's commands: `program.py` answers, `state.py` is the queue, `handle.py` is what tests hold."""

from scripted.handle import Call, Scripted, without_slurm

__all__ = ["Call", "Scripted", "without_slurm"]
