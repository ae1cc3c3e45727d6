"""Submits what of a plan is not done to Slurm as job arrays, through submitit (no torch).

A record of the array is written before sbatch is called. It is submitted on hold, each task is made to depend on the
pretraining it waits for, then the array is released. A launch that dies on the way leaves a record that is not
"released": the next one goes on with it, or takes the array back where its job is not known yet.
"""

import logging
import os
import uuid
from dataclasses import replace
from pathlib import Path

import mixmae
from ablations.grid.file import Grid
from ablations.plan.launched import grid_folder, remember
from ablations.plan.plan import Entry, Plan, states
from ablations.plan.queueing import STARTED_ANEW, create_run, for_each
from ablations.slurm import policy, resources
from ablations.slurm.allocation import environment, without_allocation
from ablations.slurm.submissions import Submission, alone, records, submissions, task_of
from mixmae.fields.identity import Key
from mixmae.files.records import write_json
from mixmae.runs import scheduler
from mixmae.runs.scheduler import Queued
from mixmae.runs.state import RunState
from mixmae.tracking.asked import check_installed
from mixmae.training.resources import Resources
from mixmae.work import task

log = logging.getLogger(__name__)

PATIENCE_S = 600
"""How long a launch waits for another of the same grid to have submitted."""


def submit(grid: Grid, plan: Plan, cancelled: bool) -> list[Submission]:
    """Submits every run that is to be started and is not in the queue; returns what was submitted.

    cancelled: those that were cancelled too. Raises Held where another launch of this grid does not end, Lost where
    another has taken over from this, scheduler.NoAnswer where Slurm does not answer, ValueError where the package of a
    tracker is missing.
    """
    check_installed(grid.spec.resources.track)
    with alone(plan, PATIENCE_S) as lease:
        known, queue = submissions(plan.root), _answered(scheduler.queue())
        _finish(known, plan, queue)
        run_states = _judged(grid, plan, known, queue)
        tasks = _queued_tasks(plan, known, queue)
        states = {name for name in STARTED_ANEW if cancelled or name != "cancelled"}
        wanted = _to_start(plan, run_states, tasks, states)
        slurms = resources.resolved(grid, wanted)
        most = scheduler.max_array_size()
        made = []
        for array in sorted(resources.arrays(wanted, slurms), key=lambda array: array.depth):
            pack = array.slurm.pack
            jobs = [array.entries[place : place + pack] for place in range(0, len(array.entries), pack)]
            slurm, sizes = resources.split(array.slurm, len(jobs), most)
            for size in sizes:
                part, jobs = jobs[:size], jobs[size:]
                lease.check()
                made.append(_submit_array(grid, plan, slurm, part, tasks))
        remember(plan.root, plan.name, (entry.key for entry in plan.entries))
        return made


def _answered(queue: dict[str, Queued] | None) -> dict[str, Queued]:
    if queue is None:
        raise scheduler.NoAnswer("squeue does not answer; nothing is submitted before it says what is in the queue")
    return queue


def _judged(grid: Grid, plan: Plan, known: dict[str, Submission], queue: dict[str, Queued]) -> dict[Key, RunState]:
    run_states = policy.standing(plan.entries, states(plan.entries), known, queue)
    tasks = policy.to_judge(plan.entries, run_states, known)
    ended = [entry for entry in plan.entries if entry.key in tasks]
    why = policy.causes(tasks, run_states, scheduler.ended(task.partition("_")[0] for task in tasks.values()))
    return policy.judged(plan, run_states, resources.resolved(grid, ended), why)


def _queued_tasks(plan: Plan, known: dict[str, Submission], queue: dict[str, Queued]) -> dict[Key, str]:
    """The task of each run that is in the queue."""
    tasks = ((entry.key, task_of(entry.run, known)) for entry in plan.entries)
    return {key: task for key, task in tasks if task is not None and task in queue}


def _to_start(plan: Plan, run_states: dict[Key, RunState], tasks: dict[Key, str], states: set[str]) -> list[Entry]:
    """The runs that are not under way; of those that wait for a pretraining, only where that is done, in the queue or
    started too."""
    wanted: dict[Key, Entry] = {}
    for entry in plan.entries:
        there = (
            not entry.needs or run_states[entry.needs].state == "done" or entry.needs in tasks or entry.needs in wanted
        )
        if there and run_states[entry.key].state in states and entry.key not in tasks:
            wanted[entry.key] = entry
    return list(wanted.values())


def _submit_array(
    grid: Grid, plan: Plan, slurm: resources.Slurm, jobs: list[tuple[Entry, ...]], tasks: dict[Key, str]
) -> Submission:
    """`tasks` holds, and is given, the task of each run in the queue."""
    keys = tuple(tuple(entry.key for entry in pack) for pack in jobs)
    submission = Submission(records(plan), uuid.uuid4().hex[:8], plan.name, keys).write()
    shared = grid.spec.resources.of_jobs()
    packed = [(entry, number) for number, pack in enumerate(jobs) for entry in pack]
    for_each(lambda each: _ask_for(each[0], plan, submission, each[1], shared), packed)
    paths = [_path(plan, submission, number, pack) for number, pack in enumerate(jobs)]
    submission = replace(submission, job=_sbatch(plan, slurm, submission, shared, paths)).write()
    for number, pack in enumerate(jobs):
        tasks.update({entry.key: submission.task(number) for entry in pack})
    return _released(submission, plan, tasks)


def _ask_for(entry: Entry, plan: Plan, submission: Submission, number: int, shared: Resources) -> None:
    create_run(plan.root, entry.planned)
    before = entry.run.recovered("launch")
    tries = entry.run.recovered("state").get("tries", 0) + 1
    asked = {"tries": tries, "cancelled": False, "submission": submission.id, "task": number}
    entry.run.write("launch", {**before, **asked, "resources": shared.model_dump(mode="json")})


def _path(plan: Plan, submission: Submission, number: int, pack: tuple[Entry, ...]) -> str:
    if len(pack) == 1:
        return str(pack[0].run.path / "config.json")
    path = grid_folder(plan.root, plan.name) / "packs" / f"{submission.id}-{number}.json"
    write_json(path, {"runs": [entry.key for entry in pack]})
    return str(path)


def _sbatch(plan: Plan, slurm: resources.Slurm, submission: Submission, shared: Resources, paths: list[str]) -> str:
    """Submits the tasks on hold; returns Slurm's number of the job."""
    import submitit

    asked = resources.directives(slurm, submission.name, held=True)
    asked["setup"] = [*_exports(shared), *asked.get("setup", [])]
    executor = submitit.SlurmExecutor(folder=grid_folder(plan.root, plan.name) / "submitit")
    # sbatch reads options from the environment, and a job inherits it.
    with environment(without_allocation("SLURM_CONF")):
        executor.update_parameters(**asked)
        jobs = executor.map_array(task.run, paths)
    return jobs[0].job_id.partition("_")[0]


def _exports(shared: Resources) -> list[str]:
    """Lines of shell by which a task runs the program that submitted it, and imports nothing from the folder that it
    starts in."""
    path = os.pathsep.join(filter(None, (str(Path(mixmae.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return [f"export PYTHONSAFEPATH=1 OMP_NUM_THREADS={shared.threads} PYTHONPATH={path!r} TORCH_CPP_LOG_LEVEL=ERROR"]


def _released(submission: Submission, plan: Plan, tasks: dict[Key, str]) -> Submission:
    """Sets what each task depends on, then releases the array."""
    entries = {entry.key: entry for entry in plan.entries}
    for number, keys in enumerate(submission.tasks):
        needs = {entries[key].needs for key in keys if key in entries} - {None}
        if waits_for := sorted({tasks[key] for key in needs if key in tasks}):
            try:
                scheduler.wait_for(submission.task(number), waits_for)
            except scheduler.NoAnswer as error:  # cancelled, or its pretraining has ended: it looks itself
                log.warning("task %s: %s", submission.task(number), error)
    assert submission.job is not None
    scheduler.release(submission.job)
    return replace(submission, released=True).write()


def _finish(known: dict[str, Submission], plan: Plan, queue: dict[str, Queued]) -> None:
    """Goes on with what an earlier launch left half done; `known` and `queue` are brought up to date."""
    for id, submission in known.items():
        if submission.released or submission.grid != plan.name:
            continue
        if submission.job is None:
            # Its tasks' files may not be in place: out of the queue, and its runs are submitted anew.
            scheduler.cancel_named(submission.name)
            for task_id in [task_id for task_id, queued in queue.items() if queued.name == submission.name]:
                del queue[task_id]
            known[id] = replace(submission, released=True).write()
        elif any(queued.name == submission.name for queued in queue.values()):
            known[id] = _released(submission, plan, _queued_tasks(plan, known, queue))
        else:
            known[id] = replace(submission, released=True).write()
