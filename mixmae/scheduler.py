"""What Slurm says of jobs (no torch)."""

import subprocess

PATIENCE_S = 30


def listed(job: str) -> bool | None:
    """Whether Slurm still lists the job; None where it does not answer (down, or no Slurm here)."""
    try:
        command = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if found.returncode == 0:
        return bool(found.stdout.strip())
    return False if "Invalid job id" in found.stderr else None
