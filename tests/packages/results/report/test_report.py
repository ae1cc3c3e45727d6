"""The report: what its page says, that it holds all it shows, and that what has not changed is not made again."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from ablations.commands import planned
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import line_of
from mixmae.presentation.declaration import Declaration, TableSpec
from mixmae.runs.folder import RunFolder
from results.plots.loss.spec import LossPlot
from results.report.galleries import drawable_galleries
from results.report.writing import write_report
from results.rows.collect import collect
from support.made_runs import (
    FINGERPRINT,
    Made,
    declared,
    experiment,
    two_methods_and_references,
    write_config,
    write_evaluation,
    write_pretraining,
    write_state,
    write_weights,
)

TABLE = TableSpec(name="main", title="Methods")
PLOT = LossPlot(name="loss", title="Losses")
ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.15.0",
    "cpu": "Z80",
    "device": "cpu",
    "processes": 2,
    "earlier": [],
    "host": "secret",
}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\u202e\U0001f40d" + "long" * 100
EMPTY = ("meta", "link", "img", "input", "br")


class Read(HTMLParser):
    """A page as a browser takes it: each element's text by tag, every attribute, and the texts of table rows."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.attributes, self.rows, self.open = {}, [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag in EMPTY:
            return
        self.open.append((tag, len(self.text.setdefault(tag, []))))
        self.text[tag].append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for tag, place in self.open:
            self.text[tag][place] += data
            if tag in ("td", "th"):
                self.rows[-1][-1] += data


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "report"


def report(made, folder, plots=(), **more):
    return write_report(collect(made.root), [declared(made, tables=(TABLE,), plots=plots, **more)], folder)


def page(folder) -> Read:
    return Read((folder / "index.html").read_text("utf-8"))


def pretraining(made, **fields) -> RunFolder:
    planned = stage_jobs(experiment(**fields), lambda data: FINGERPRINT)[0]
    return RunFolder(made.root, planned.stage, planned.id)


def finetuning(made, **fields) -> RunFolder:
    planned = stage_jobs(experiment(**fields), lambda data: FINGERPRINT)[1]
    return RunFolder(made.root, planned.stage, planned.id)


def took(run: RunFolder, seconds: float, epochs: int) -> None:
    lines = [line_of({"epoch": epoch, "seconds": seconds / epochs}) for epoch in range(1, epochs + 1)]
    (run.path / "timing.jsonl").write_text("".join(lines))


# --------------------------------------------------------------------------------------------------- what the page says


def test_the_page_holds_all_it_shows(made, folder):
    assert report(made, folder, plots=(PLOT,)) == ["results", "tables/main", "plots/loss", "index.html"]
    text = (folder / "index.html").read_text("utf-8")
    found = Read(text)
    assert not found.open
    places = [(tag, value) for tag, name, value in found.attributes if name in ("src", "href", "xlink:href", "action")]
    assert places and all(re.match(r"#|data:", value) for _, value in places), places
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, value in places if tag == "a"} <= set(ids)
    assert re.findall(r"https?://[^ \"<]+", text.replace("http://www.w3.org", "")) == []
    assert (folder / "plots" / "loss.svg").read_text("utf-8") in text
    assert str(made.root.parent) not in text


def test_only_the_pages_own_script_may_run_and_nothing_may_be_asked_for(made, folder):
    report(made, folder)
    found = page(folder)
    (policy,) = [value for tag, name, value in found.attributes if tag == "meta" and "default-src" in (value or "")]
    (script,) = found.text["script"]
    assert "default-src 'none'; " in policy and "http" not in policy
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}';" in policy


def test_what_tables_are_copied_as(made, folder):
    report(made, folder)
    copied = [value for tag, name, value in page(folder).attributes if name == "data-copy"]
    assert copied[:2] == [(folder / f"tables/main.{kind}").read_text("utf-8") for kind in ("md", "tex")]


def test_costs_count_every_run_once(made, folder):
    first, second = (pretraining(made, method="mixmae", seed=seed) for seed in (0, 1))
    tuned, short, moved = (
        finetuning(made, method=name, seed=seed) for name, seed in (("mixmae", 0), ("mixmae", 1), ("simmim", 0))
    )
    for run in (first, second, tuned, short):
        run.write("environment", ENVIRONMENT)
    moved.write("environment", {**ENVIRONMENT, "device": "H100", "earlier": [{**ENVIRONMENT, "processes": 1}]})
    took(first, 3600, 20)
    took(second, 7200, 20)
    took(tuned, 900, 4)
    took(short, 900, 3)
    took(moved, 900, 4)
    macs = {("pretrain", run.id): 2_000_000_000_000 // (20 * 1408) for run in (first, second)}
    report(made, folder, macs=macs)
    rows = page(folder).rows
    # 2 processes for 1 h and for 2 h; std of (2, 4) with n - 1
    assert ["MixMAE", "swin_nano", "32", "20", "2 T", "Z80", "2", "3 ± 1.4"] in rows
    assert ["pretraining", "Z80", "2", "2", "6", "4 T"] in rows
    assert ["pretraining", "–", "1", "0", "–", "–"] in rows
    # Not of which an epoch is missing, nor of which the number of processes changed.
    assert ["fine-tuning", "Z80", "2", "1", "0.5", "–"] in rows
    assert ["fine-tuning", "Z80 and H100", "1", "0", "–", "–"] in rows
    assert ["cpu", "Z80", "Z80"] in rows and ["device", "cpu", "H100"] in rows
    notes = page(folder).text["p"]
    assert "10 runs without environment.json." in notes
    assert "1 run began in another environment and went on in this." in notes
    assert "secret" not in (folder / "index.html").read_text("utf-8")


def test_what_is_not_done_is_said_with_its_reason(made, folder):
    jobs = stage_jobs(experiment("mae"), lambda data: FINGERPRINT)
    made.members["main"] |= {(planned.stage, planned.id) for planned in jobs}
    failed = write_config(made.root, jobs[0])
    write_state(failed, "failed", f"{failed.path}/checkpoints: disk full")
    (made.root / "knn" / "broken").mkdir()
    report(made, folder)
    found = page(folder)
    reason = f"pretrain/{failed.id}/checkpoints: disk full"
    assert [failed.id, "pretraining", "MAE", "swin_nano", "0", "failed", reason] in found.rows
    assert "15 done, 1 failed, 3 not launched or not readable" in found.text["dd"]
    assert {f"{planned.stage}/{planned.id}" for planned in jobs[1:]} <= set(found.text["li"])
    assert any(line.startswith("knn/broken: no config.json") for line in found.text["li"])


def test_a_scale_is_said_wherever_the_figures_are(made, folder):
    report(made, folder, scale="laptop", title="Methods")
    found = page(folder)
    assert found.text["h1"] == ["Results: Methods, at scale laptop"]
    assert "Methods, at scale laptop" in found.text["h2"] and found.text["strong"] == ["Scale: laptop."]
    assert any("not the paper’s settings" in text for text in found.text["p"])


def test_every_run_shows_the_columns_in_which_runs_differ(made, folder):
    made.add(experiment("mixmae", epochs=40), knn=84.5)
    report(made, folder)
    (header,) = [row for row in page(folder).rows if row[:3] == ["id", "stage", "state"]]
    assert {"epochs", "ratio", "top-1 (%)"} <= set(header) and "data" not in header
    run = dict(zip(header, next(row for row in page(folder).rows if "84.50" in row), strict=True))
    assert (run["stage"], run["method"], run["epochs"], run["dual"], run["seed"]) == ("kNN", "MixMAE", "40", "yes", "0")


def test_every_run_shows_what_a_grid_sweeps_though_it_has_no_short_name(made, folder):
    made.add(experiment("mixmae", evaluations={"knn": {"k": 5}}), knn=84.5)
    report(made, folder, swept={"evaluations.knn.k": "grid.yaml:3:5", "data.name": "grid.yaml:4:5"})
    (header,) = [row for row in page(folder).rows if row[:3] == ["id", "stage", "state"]]
    assert "evaluations.knn.k" in header, header
    assert "data.name" not in header, header
    run = dict(zip(header, next(row for row in page(folder).rows if "84.50" in row), strict=True))
    assert run["evaluations.knn.k"] == "5"
    assert any(text == "5, 20" for text in page(folder).text["dd"])


def test_names_from_configs_and_files_are_text(made, folder):
    run = pretraining(made, method="simmim")
    config = run.read("config")
    config["job"]["encoder"]["name"] = HOSTILE
    run.write("config", config)
    run.write("environment", {"commit": HOSTILE, "python": HOSTILE})
    write_state(run, "failed", HOSTILE)
    (made.root / "pretrain" / "<img src=x onerror=alert(1)>\udcff").mkdir()
    names = {"title": HOSTILE, "scale": HOSTILE, "commands": (HOSTILE, HOSTILE)}
    table, plot = TABLE.model_copy(update={"title": HOSTILE}), PLOT.model_copy(update={"title": HOSTILE})
    write_report(collect(made.root), [declared(made, tables=(table,), plots=(plot,), **names)], folder)
    found = page(folder)
    assert not found.open and len(found.text["script"]) == 1
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    for tag in ("title", "h1", "h2", "h3", "td", "dd", "code", "p", "strong"):
        assert any(HOSTILE in text for text in found.text[tag]), tag
    assert any("<img src=x onerror=alert(1)>\\udcff: no config.json" in text for text in found.text["li"])


def test_a_grid_of_which_nothing_was_run(tmp_path, folder):
    (tmp_path / "runs").mkdir()
    members = {"main": {("knn", "0123")}}
    write_report(collect(tmp_path / "runs"), [Declaration("new", tables=(TABLE,), members=members)], folder)
    assert "1 not launched or not readable" in page(folder).text["dd"]
    assert "knn/0123" in page(folder).text["li"]


# -------------------------------------------------------------------------------------------------------- several grids


def test_several_grids_share_a_page_and_their_runs(made, folder):
    everything = declared(made, title="All", tables=(TABLE,), plots=(PLOT,), commands=("run all", "show"))
    few = {"main": {key for key in made.members["main"] if key[0] == "pretrain"}}
    losses = Declaration("losses", "Some", plots=(PLOT,), members=few, commands=("run some", "show"))
    anew = write_report(collect(made.root), [everything, losses], folder)
    assert anew == ["results", "made/tables/main", "made/plots/loss", "losses/plots/loss", "index.html"]
    found = page(folder)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert found.text["h2"][1:3] == ["All", "Some"]
    (start,) = [place for place, row in enumerate(found.rows) if row[:3] == ["id", "stage", "state"]]
    listed = [row[0] for row in found.rows[start + 1 :] if re.fullmatch(r"[0-9a-f]{16}", row[0])]
    assert len(listed) == len(set(listed)) == 15
    (commands,) = [value for _, name, value in found.attributes if name == "data-copy" and "run all" in value]
    assert commands.splitlines()[-3:] == ["run all", "run some", "show"]


def test_two_grids_of_one_name_are_refused(made, folder):
    with pytest.raises(ValueError, match="two grids are called made; rename one of their files"):
        write_report(collect(made.root), [declared(made), declared(made)], folder)


GRID = """
title: Two seeds
base: digits_nano
set: {evaluations.finetune: null, evaluations.linear: null}
sweeps: [{name: seeds, product: {seed: [0, 1]}}]
tables: [{name: seeds, rows: [method], stages: [knn]}]
"""


def test_the_command_merges_roots_and_says_how_to_make_the_page_again(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(GRID)
    places = [tmp_path / "a", tmp_path / "b"]
    for place, entry in zip((0, 0, 1, 1), planned(tmp_path / "grid.yaml", places[0])[1].entries, strict=True):
        write = write_pretraining if entry.planned.stage == "pretrain" else write_evaluation
        write(places[place], entry.planned, 80.0 + place)
    words = ["--root", "a", "results", "report", "grid.yaml", "--root", "a", "--root", "b", "--out", "page.html"]
    out, _ = called(*words, folder=tmp_path)
    assert out.endswith(" MB; made anew: results, tables/seeds, page.html\n")
    found = Read((tmp_path / "page.html").read_text("utf-8"))
    assert found.text["title"] == ["Results: Two seeds"] and "4 done" in found.text["dd"]
    assert any(row[0] == "MixMAE" and row[1].startswith("80.50 ± 0.71 (n=2)") for row in found.rows)
    assert found.text["pre"][0].splitlines()[-2:] == ["mixmae grid run grid.yaml", "mixmae results report grid.yaml"]
    assert (places[0] / "report-grid" / "tables" / "seeds.tex").is_file()


# ------------------------------------------------------------------------------------------- only what has changed


def test_an_unchanged_report_is_not_touched_and_imports_nothing_that_draws(made, folder):
    report(made, folder, plots=(PLOT,))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    members = {name: sorted(pairs) for name, pairs in made.members.items()}
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from mixmae.presentation.declaration import Declaration, TableSpec\n"
        "from results.rows.collect import collect\n"
        "from results.plots.loss.spec import LossPlot\n"
        "from results.report.writing import write_report\n"
        "root, folder, members, table, plot = sys.argv[1:]\n"
        "members = {name: {tuple(pair) for pair in pairs} for name, pairs in json.loads(members).items()}\n"
        "table, plot = TableSpec.model_validate_json(table), LossPlot.model_validate_json(plot)\n"
        "grid = Declaration('made', tables=(table,), plots=(plot,), members=members)\n"
        "made = write_report(collect(Path(root)), [grid], Path(folder))\n"
        "drawing = ('torch', 'seaborn', 'matplotlib', 'timm', 'scipy')\n"
        "print(made, [name for name in drawing if name in sys.modules])\n"
    )
    arguments = [str(made.root), str(folder), json.dumps(members), TABLE.model_dump_json(), PLOT.model_dump_json()]
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout == "[] []\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_has_changed_is_made_again_and_nothing_else(made, folder):
    report(made, folder, plots=(PLOT,))
    made.add(experiment("mixmae", seed=2), knn=85.0)
    assert report(made, folder, plots=(PLOT,)) == ["results", "tables/main", "plots/loss", "index.html"]
    with pretraining(made, method="mixmae", seed=2).metrics.open("a") as file:
        file.write('{"epoch": 21, "step": 999, "loss": 0.1, "lr": 0.0}\n')
    assert report(made, folder, plots=(PLOT,)) == ["plots/loss", "index.html"]
    finetuning(made, method="mixmae", seed=0).write("environment", ENVIRONMENT)
    assert report(made, folder, plots=(PLOT,)) == ["index.html"]
    (folder / "tables" / "main.tex").unlink()
    assert report(made, folder, plots=(PLOT,)) == ["tables/main"]
    assert report(made, folder, plots=(PLOT,), scale="laptop") == ["tables/main", "plots/loss", "index.html"]
    assert report(made, folder, plots=(PLOT,), scale="laptop") == []


def test_a_page_of_another_name_is_made_of_the_same_files(made, folder, tmp_path):
    report(made, folder)
    grid = declared(made, tables=(TABLE,))
    assert write_report(collect(made.root), [grid], folder, tmp_path / "to send.html") == ["to send.html"]
    assert (tmp_path / "to send.html").read_bytes() == (folder / "index.html").read_bytes()


# ---------------------------------------------------------------------------------------------------- reconstructions


@pytest.mark.slow
def test_a_gallery_is_drawn_once_for_the_same_weights(tmp_path, folder):
    made = Made(tmp_path / "runs")
    planned, other = (made.add(experiment("simmim", encoder))[0] for encoder in ("swin_nano", "pvt_nano"))
    run = RunFolder(made.root, planned.stage, planned.id)
    write_weights(run, planned)

    def again():
        return write_report(collect(made.root), [declared(made)], folder)

    assert again() == ["results", "gallery/swin_nano-32-digits", "index.html"]
    assert any(f"pretrain/{other.id}: in no gallery, since" in line for line in page(folder).text["li"])
    assert page(folder).text["svg"][-1].replace("\xa0", " ").count("SimMIM · swin_nano · 20 epochs") == 1
    assert again() == []
    write_weights(run, planned, seed=1)
    assert again() == ["gallery/swin_nano-32-digits", "index.html"]


def test_a_gallery_shows_each_method_as_it_is_meant(tmp_path):
    made = two_methods_and_references(tmp_path)
    for method in ({"name": "mixmae", "ratio": 0.75}, {"name": "mixmae", "dual": False}, "mae"):
        made.add(experiment(method))
    made.add(experiment("simmim", epochs=40))
    made.add(experiment("mixmae", "pvt_nano"))
    for run in (tmp_path / "pretrain").iterdir():
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "final.safetensors").touch()
    found, problems = drawable_galleries(collect(tmp_path))
    ids = {gallery.name: [run.id for run in gallery.runs] for gallery in found}
    assert problems == [] and ids == {
        "pvt_nano-32-digits": [pretraining(made, method="mixmae", encoder="pvt_nano").id],
        "swin_nano-32-digits": [
            pretraining(made, method="mixmae").id,
            pretraining(made, method="simmim", epochs=40).id,
            pretraining(made, method="mae").id,
        ],
    }


def test_damaged_weights_are_in_no_gallery(tmp_path):
    planned = stage_jobs(experiment("mixmae"), lambda data: FINGERPRINT)[0]
    run = write_pretraining(tmp_path, planned, 0.5)
    write_weights(run, planned)
    run.commit(run.read("result"))
    with run.weights.open("ab") as file:
        file.write(b"more")
    found, (problem,) = drawable_galleries(collect(tmp_path))
    assert found == [] and f"pretrain/{run.id}: in no gallery, since" in problem and "damaged or changed" in problem
