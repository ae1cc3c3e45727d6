"""What a grid file asks of Slurm: times and memory, what lies over what, what is refused, and submitit's own words."""

import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError
from submitit.slurm import slurm as submitit_slurm

from ablations.grid.file import read_grid
from ablations.plan.plan import plan
from ablations.slurm.quantities import memory_text, minutes
from ablations.slurm.resources import Slurm, arrays, directives, resolved, sbatch_text
from mixmae.fields.documents import ConfigError

HEAD = "base: digits_nano\nsweeps: [{name: all, product: {seed: [0, 1], encoder: [swin_nano, pvt_nano]}}]\n"


@pytest.fixture(autouse=True)
def own_sites(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "mixmae" / "sites"
    folder.mkdir(parents=True)
    return folder


def asked(folder: Path, slurm: str, head: str = HEAD) -> dict:
    """{(stage, encoder): what the jobs ask for}."""
    path = folder / "grid.yaml"
    path.write_text(f"{head}resources:\n  workers: 3\n  slurm: {slurm}\n")
    grid = read_grid(path)
    planned = plan(grid.name, grid.cases, folder / "runs")
    found = resolved(grid, planned.entries)
    return {(entry.planned.stage, entry.encoder): found[entry.key] for entry in planned.entries}


def complaint(folder: Path, slurm: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigError) as caught:
        asked(folder, slurm, head)
    return str(caught.value).replace(f"{folder}/", "")


# ------------------------------------------------------------------------------------------------------ time and memory

ANY = st.integers(0, 200)


@given(days=ANY, hours=ANY, mins=ANY, seconds=ANY)
def test_every_form_of_a_time(days, hours, mins, seconds):
    forms = {
        f"{mins}": mins * 60,
        f"{mins}:{seconds}": mins * 60 + seconds,
        f"{hours}:{mins:02}:{seconds:02}": hours * 3600 + mins * 60 + seconds,
        f"{days}-{hours}": days * 86400 + hours * 3600,
        f"{days}-{hours}:{mins}": days * 86400 + hours * 3600 + mins * 60,
        f"{days}-{hours:02}:{mins}:{seconds}": days * 86400 + hours * 3600 + mins * 60 + seconds,
    }
    for text, total in forms.items():
        if total:
            found = minutes(text)
            assert 0 <= found * 60 - total < 60, text
            assert minutes(found) == found
        else:
            with pytest.raises(PydanticCustomError, match="a limit of zero"):
                minutes(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2-12", 3600),
        ("90:00", 90),
        ("1-2:3", 1563),
        ("0:30", 1),
        ("00:90:00", 90),
        ("30:99", 32),
        ("1-30:70:70", 3312),
    ],
)
def test_times_as_slurm_22_05_read_them(text, found):
    assert minutes(text) == found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4h", "write 4:00:00"),
        ("90min", "write 90:00"),
        ("2 days", "write 2-00"),
        ("45s", "write 0:45"),
        ("infinite", "write minutes, MM:SS"),
        ("1-2:3:4:5", "write minutes"),
        ("1:2:3:4", "write minutes"),
        ("-5", "write minutes"),
        ("", "write minutes"),
        ("٣", "write minutes"),
        ("5\n", "write minutes"),
        (-5, "write minutes"),
        (True, "expected a time"),
        (1.5, "expected a time"),
    ],
)
def test_what_is_no_time_is_refused_with_a_hint(text, hint):
    with pytest.raises(PydanticCustomError, match=hint):
        minutes(text)


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_refused(text):
    try:
        assert minutes(text) > 0
    except PydanticCustomError as error:
        assert "write" in str(error)


@given(number=st.integers(1, 10**6), unit=st.sampled_from("KMGTkmgt"), b=st.sampled_from(["", "B"]))
def test_memory_keeps_its_size(number, unit, b):
    sizes = dict(zip("KMGT", (1, 1024, 1024**2, 1024**3), strict=True))
    found = memory_text(f"{number}{unit}{b}")
    kib = int(found[:-1]) * sizes[found[-1]]
    assert 0 <= kib - number * sizes[unit.upper()] < 1024
    assert memory_text(found) == found


@given(st.integers(1, 1000))
def test_one_amount_of_memory_has_one_text(gib):
    assert memory_text(f"{gib}G") == memory_text(f"{gib * 1024}M") == memory_text(f"{gib * 1024**2}K")


@pytest.mark.parametrize(
    "text", ["-1", "-64G", "64", "1.5G", "0G", "G", "64 G", "lots", "", "64X", 64, True, None, "٣G"]
)
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(PydanticCustomError, match="write a whole number and its unit"):
        memory_text(text)


def test_no_memory_given_is_not_all_of_the_node():
    assert memory_text(0) == memory_text("0") == "0"


# -------------------------------------------------------------------------------------------------- what lies over what


def test_the_site_below_the_grid_below_its_overrides(tmp_path, own_sites):
    (own_sites / "lab.yaml").write_text(
        """\
partition: gpu
account: vision
time: 1:00:00
gpus_per_node: 4
cpus_per_gpu: 8
setup: [module load cuda, source env.sh]
directives: {mail-type: FAIL, hint: nomultithread}
retries: {preempted: never, timeout: {most: 7, when: always}}
"""
    )
    found = asked(
        tmp_path,
        """
    site: lab
    time: 2:00:00
    account: null
    directives: {mail-type: END}
    retries: {timeout: progress, failed: {when: always, most: 2}}
    overrides:
      - {stage: knn, set: {gpus_per_node: 0, time: 30}}
      - {encoder: "pvt*", set: {time: 40, setup: []}}
      - {encoder: "pvt*", stage: knn, method: "mix*", set: {time: 50}}
      - {method: mae, set: {time: 60}}
""",
        HEAD + "set: {pretrain.chunk: 8, evaluations.finetune.chunk: 4}\n",
    )
    swin = found["pretrain", "swin_nano"]
    assert (swin.partition, swin.account, swin.time, swin.gpus, swin.cpus_per_task) == ("gpu", None, 120, 1 * 4, 8)
    assert swin.setup == ("module load cuda", "source env.sh")
    assert swin.directives == (("hint", "nomultithread"), ("mail-type", "END"))
    assert swin.retries.preempted.model_dump() == {"when": "never", "most": 100}
    assert swin.retries.timeout.model_dump() == {"when": "progress", "most": 7}
    assert swin.retries.failed.model_dump() == {"when": "always", "most": 2}
    assert swin.retries.node_failure.model_dump() == {"when": "always", "most": 10}
    knn = found["knn", "swin_nano"]
    assert (knn.time, knn.gpus, knn.tasks, knn.cpus_per_task) == (30, 0, 1, 4), "threads + workers"
    assert (found["linear", "pvt_nano"].time, found["linear", "pvt_nano"].setup) == (40, ())
    assert found["knn", "pvt_nano"].time == 50


LAYER = st.fixed_dictionaries(
    {},
    optional={
        "partition": st.sampled_from(["a", "b"]),
        "qos": st.sampled_from(["low", "high"]),
        "time": st.integers(10, 1000),
        "memory": st.sampled_from(["1G", "900M"]),
        "max_running": st.integers(1, 9),
        "directives": st.dictionaries(st.sampled_from(["hint", "comment", "licenses"]), st.integers(1, 3)),
        "retries": st.fixed_dictionaries({}, optional={"timeout": st.sampled_from(["always", "never"])}),
    },
)


@given(layers=st.lists(LAYER, min_size=2, max_size=4))
def test_each_field_is_that_of_the_topmost_layer_that_gives_it(tmp_path_factory, layers):
    folder = tmp_path_factory.mktemp("grid")
    site, block, *sets = [{"time": 5, **layers[0]}, *layers[1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        (folder / "mixmae" / "sites").mkdir(parents=True)
        (folder / "mixmae" / "sites" / "lab.yaml").write_text(json.dumps(site))
        written = {**block, "site": "lab", "overrides": [{"set": each} for each in sets]}
        found = asked(folder, json.dumps(written), HEAD.replace("[0, 1]", "[0]"))["knn", "swin_nano"]
    expected = {"time": 5, "partition": None, "qos": None, "memory": None, "max_running": 256}
    options, timeout = {}, "progress"
    for layer in layers:
        expected |= {name: value for name, value in layer.items() if name in expected}
        options |= layer.get("directives", {})
        timeout = layer.get("retries", {}).get("timeout", timeout)
    assert {name: getattr(found, name) for name in expected} == expected
    assert dict(found.directives) == options
    assert found.retries.timeout.when == timeout


def test_jobs_that_ask_for_the_same_share_an_array(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        HEAD
        + """\
resources:
  slurm:
    {time: 60, memory: 2G, overrides: [{encoder: pvt_nano, set: {memory: 2048M, time: "60:00"}},
     {stage: knn, encoder: pvt_nano, set: {time: 5}}]}
"""
    )
    grid = read_grid(path)
    planned = plan(grid.name, grid.cases, tmp_path / "runs")
    found = arrays(planned.entries, resolved(grid, planned.entries))
    assert [(array.stage, len(array.entries), array.slurm.time) for array in found] == [
        ("pretrain", 4, 60), ("finetune", 4, 60), ("linear", 4, 60), ("knn", 2, 60), ("knn", 2, 5),
    ]  # fmt: skip
    assert {entry.encoder for entry in found[-1].entries} == {"pvt_nano"}


def test_resources_are_no_part_of_an_id(tmp_path):
    ids = []
    for resources in (
        "",
        "resources: {executor: slurm, slurm: {time: 5, gpus_per_node: 1, retries: {failed: always}}}\n",
    ):
        (tmp_path / "grid.yaml").write_text(HEAD + resources)
        grid = read_grid(tmp_path / "grid.yaml")
        ids.append([entry.key for entry in plan(grid.name, grid.cases, tmp_path / "runs").entries])
    assert ids[0] == ids[1]


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("slurm", "said"),
    [
        ("{partition: gpu}", "grid.yaml:5:3: resources.slurm.time: missing; write minutes"),
        ("{time: 4h}", "grid.yaml:5:11: resources.slurm.time: '4h' is not a time of Slurm's; write 4:00:00"),
        ("{time: 0}", "grid.yaml:5:11: resources.slurm.time: a limit of zero"),
        ("{time: 9, memory: -4G}", "grid.yaml:5:20: resources.slurm.memory: '-4G' is not an amount of memory"),
        ("{time: 9, gpu_per_node: 1}", "resources.slurm.gpu_per_node: unknown field (did you mean gpus_per_node?)"),
        ("{time: 9, nodes: 0}", "resources.slurm.nodes: expected a number above 0, found 0"),
        ("{time: 3}", "signal_seconds: 120 s of warning, which Slurm may give up to 60 s earlier, do not fit into a"),
        ("{time: 9, cpus_per_gpu: 2}", "5:20: resources.slurm.cpus_per_gpu: there are no GPUs; write gpus_per_node"),
        ("{time: 9, gpus_per_node: 1, cpus_per_gpu: 2, cpus_per_task: 2}", "cpus_per_gpu: cpus_per_task is given too"),
        ("{time: 9, gpus_per_node: 2, tasks_per_node: 1}", "tasks_per_node: 1 processes for 2 GPUs, but each process"),
        (
            "{time: 9, tasks_per_node: 2, pack: 3}",
            "pack: 3 jobs in a task, but each job has 2 processes; write pack: 1",
        ),
        ("{time: 9, directives: {time: 5}}", "resources.slurm.directives.time: has a field of its own; write time: …"),
        ("{time: 9, directives: {--mem: 5G}}", "directives.--mem: has a field of its own; write memory: …"),
        ("{time: 9, directives: {output: log}}", "directives.output: is set by grid run itself; leave it out"),
        ("{time: 9, directives: {comment: [1]}}", "directives.comment: expected text, a whole number or true"),
        ("{time: 9, directives: {'a b': 1}}", "directives.a b: is no option of sbatch's"),
        ("{time: 9, retries: {timeout: sometimes}}", "resources.slurm.retries.timeout: expected 'always', 'progress'"),
        ("{time: 9, overrides: [{stage: lol, set: {}}]}", "overrides[0].stage: expected 'pretrain', 'finetune'"),
        ("{time: 9, overrides: [{set: {time: 0}}]}", "overrides[0].set.time: a limit of zero"),
        ("{time: 9, overrides: [{stage: knn, set: {pack: 2, tasks_per_node: 2}}]}", "overrides[0].set.pack: 2 jobs in"),
        ("{site: lba, time: 9}", "grid.yaml:5:11: resources.slurm.site: no site profile 'lba'; did you mean lab?"),
        ("{site: ../lab, time: 9}", "resources.slurm.site: no site profile '../lab'"),
        ("{site: lab}", "lab.yaml:1:1: time: '1d' is not a time of Slurm's; write 1-00"),
    ],
)
def test_what_cannot_be_is_refused_where_it_was_written(tmp_path, own_sites, slurm, said):
    (own_sites / "lab.yaml").write_text("time: 1d\n")
    assert said in complaint(tmp_path, slurm)


def test_a_profile_s_own_mistake_is_shown_in_the_profile(tmp_path, own_sites):
    (own_sites / "lab.yaml").write_text("partition: gpu\npack: 2\n")
    said = complaint(tmp_path, "{site: lab, time: 9, tasks_per_node: 2}")
    assert "lab.yaml:2:1: pack: 2 jobs in a task" in said
    (own_sites / "lab.yaml").write_text("site: other\n")
    assert "lab.yaml:1:1: site: unknown field" in complaint(tmp_path, "{site: lab, time: 9}")


def test_without_profiles_it_says_where_one_goes(tmp_path, own_sites):
    said = complaint(tmp_path, "{site: lab, time: 9}")
    assert f"there are none yet; write {own_sites}/lab.yaml".replace(f"{tmp_path}/", "") in said


def test_more_processes_than_chunks_are_refused(tmp_path):
    head = HEAD + "set: {pretrain: {batch: 64, chunk: 32}}\n"
    said = complaint(tmp_path, "{time: 9, nodes: 2, gpus_per_node: 2}", head)
    expected = (
        "nodes: 4 processes, but a batch of 64 images is 2 chunks; ask for fewer, or write chunk: 16 or a smaller"
    )
    assert expected in said
    only_knn = "{time: 9, overrides: [{stage: knn, set: {nodes: 2, gpus_per_node: 2}}]}"
    assert asked(tmp_path, only_knn, head)["knn", "swin_nano"].processes == 4


# ----------------------------------------------------------------------------------------------------- submitit's words


class Dry(submitit_slurm.SlurmExecutor):
    """submitit's executor, which looks for srun before it is made."""

    @classmethod
    def affinity(cls) -> int:
        return 1


SLURMS = st.builds(
    Slurm,
    partition=st.none() | st.sampled_from(["gpu", "a,b"]),
    time=st.integers(3, 10**4),
    memory=st.none() | st.sampled_from(["64G", "900M", "0"]),
    nodes=st.integers(1, 3),
    gpus_per_node=st.integers(0, 8),
    cpus_per_task=st.integers(1, 16),
    max_running=st.integers(1, 300),
    directives=st.dictionaries(st.sampled_from(["hint", "exclusive", "comment"]), st.just(True) | st.just("it's")),
    setup=st.lists(st.sampled_from(["module load cuda", "export A=1"]), max_size=2),
)


@given(slurm=SLURMS, count=st.integers(1, 400), held=st.booleans())
def test_the_script_is_the_one_submitit_makes(tmp_path_factory, slurm, count, held):
    folder = tmp_path_factory.mktemp("folder")
    executor = Dry(folder)
    executor.update_parameters(**directives(slurm, "mixmae-x", held))
    if count > 1:
        executor.parameters["map_count"] = count
    command = executor._submitit_command_str
    made = executor._make_submission_file_text(command, "uid")
    assert sbatch_text(slurm, folder, count, "mixmae-x", command, held) == made
    assert executor._num_tasks() == slurm.processes
    flags = [line for line in made.splitlines() if line.startswith("#SBATCH")]
    assert f"#SBATCH --time={slurm.time}" in flags and "#SBATCH --requeue" in flags
    assert ("#SBATCH --hold" in flags) == held
    assert any(line.startswith(f"#SBATCH --array=0-{count - 1}%{min(count, slurm.max_running)}") for line in flags) == (
        count > 1
    )
    assert [line for line in made.splitlines() if line in slurm.setup] == list(slurm.setup)


def test_every_word_is_one_that_submitit_takes():
    known = set(inspect.signature(submitit_slurm._make_sbatch_string).parameters)
    full = Slurm(
        time=5, memory="1G", partition="p", account="a", qos="q", constraint="c", exclude="n1", gpus_per_node=2
    )
    assert set(directives(full)) <= known
    assert directives(full)["ntasks_per_node"] == 2
    assert "--kill-on-bad-exit=1" in directives(full)["srun_args"]


def test_a_resolved_block_can_be_stored_and_read(tmp_path):
    block = "{time: 1-2, memory: 2048M, directives: {hint: x}, setup: [a], retries: {failed: always}}"
    found = asked(tmp_path, block)["knn", "swin_nano"]
    stored = found.model_dump_json()
    assert Slurm.model_validate_json(stored) == found
    assert hash(Slurm.model_validate_json(stored)) == hash(found)
    assert json.loads(stored)["directives"] == {"hint": "x"}
