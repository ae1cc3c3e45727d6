"""Tables of a grid's runs, against text and figures worked out by hand."""

import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.plugins import recall
from mixmae.experiment.stages import stages
from mixmae.presentation.declaration import Declaration, TableSpec
from mixmae.presentation.shown import MixedCell, differing_fields
from mixmae.runs.folder import RunFolder
from results.rows.collect import collect
from results.tables import build_table, markdown, numeric, write_tables
from support.made_runs import (
    FINGERPRINT,
    Made,
    declared,
    experiment,
    write_config,
    write_state,
)

TABLE = TableSpec(name="main", title="Methods")
NOTHING = "\N{EN DASH}"
RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
BOLD = (
    "Bold: the best of its column, significantly better than each rival there (two-sided paired t-test over matched "
    "seeds, Holm-corrected in the column, α = 0.05)."
)
DETECTABLE = (
    "Smallest detectable difference: found with 80 % power at the strictest corrected level, given the spread of the "
    "paired differences."
)


def built(made, spec=TABLE, **more):
    return build_table(collect(made.root), spec, declared(made, **more))


def test_a_plug_in_that_is_known_adds_no_column_where_no_grid_declares_it(made, forgotten_plugins):
    before = markdown(built(made))
    metric = {"name": "error", "label": "error", "short": "error"}
    recall([{"kind": "evaluation", "name": "sizes", "label": "sizes", "metrics": [metric], "leaves_encoder": False}])
    assert "sizes" in [spec.name for spec in stages]
    assert markdown(built(made)) == before


def test_evaluations_that_no_run_of_its_sweeps_has_are_no_columns(tmp_path):
    made = Made(tmp_path / "runs")
    made.add(experiment(), sweep="probed", linear=60.0)
    made.add(experiment("simmim"), sweep="neighbours", knn=50.0)
    names = {key: (key[0],) for of_sweep in made.members.values() for key in of_sweep}
    every = built(made, names=names)
    assert [column.text() for column in every.figures] == ["linear", "kNN"]
    probed = built(made, TABLE.model_copy(update={"sweeps": ("probed",)}), names=names)
    assert [column.text() for column in probed.figures] == ["linear"]


def cell(table, row, column=0):
    return table.rows[row].cells[column]


def test_a_table_is_what_one_works_out_by_hand(made, tmp_path):
    paths = write_tables(collect(made.root), declared(made, tables=(TABLE,)), tmp_path)
    assert [path.name for path in paths] == ["main.md", "main.csv", "main.tex", "main.html"]
    assert (tmp_path / "main.md").read_text() == (
        "### Methods\n"
        "\n"
        "| method | encoder | fine-tuning | linear | kNN |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| MixMAE | swin_nano | 91.50 ± 0.71 (n=2) | 81.00 ± 1.41 (n=2) | 83.00 ± 0.00 (n=2) |\n"
        "| SimMIM | swin_nano | 90.50 (n=1) | 66.60 (n=1) | \N{EN DASH} |\n"
        f"| {RULE} | {RULE} | {RULE} | {RULE} | {RULE} |\n"
        "| from scratch (control) | swin_nano | 90.25 (n=1) | \N{EN DASH} | \N{EN DASH} |\n"
        "| random init (control) | swin_nano | \N{EN DASH} | 60.00 (n=1) | 65.00 (n=1) |\n"
        "| raw pixels (control) | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | 88.00 (n=1) |\n"
        "\n"
        "Controls start from raw pixels or random weights. Pretraining is said to pay where its best mean is at least "
        "5 points above that of the best control on the same images and labels. "
        "fine-tuning: MixMAE, swin_nano beats from scratch, swin_nano, the best control, by 1.25 points: less than 5; "
        "linear: pretraining pays: MixMAE, swin_nano beats random init, swin_nano, the best control, by 21.00 points; "
        "kNN: no method beats raw pixels (88.00).\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
        "\n"
        f"{BOLD}\n"
        "\n"
        "fine-tuning; linear: no claim, since fewer than three seeds are matched with some rival.\n"
        "\n"
        "kNN: no claim, since raw pixels, with one run, is best.\n"
        "\n"
        "With one run, no rival: random init, swin_nano; raw pixels.\n"
    )


def test_a_failed_seed_is_a_smaller_n_and_is_named(made):
    finetune = stage_jobs(experiment("mixmae", seed=1), lambda data: FINGERPRINT)[1]
    run = RunFolder(made.root, "finetune", finetune.id)
    (run.path / "result.json").unlink()
    write_state(run, "failed", "diverged")
    text = markdown(built(made))
    assert "| MixMAE | swin_nano | 91.00 (n=1) | 81.00 ± 1.41 (n=2) |" in text
    assert f"\nNot counted, failed: finetune/{finetune.id}.\n" in text


def test_a_row_whose_runs_have_no_folder_is_named(made):
    planned = stage_jobs(experiment("mixmae", seed=5), lambda data: FINGERPRINT)[3]
    made.members["main"].add((planned.stage, planned.id))
    row = {"stage": planned.stage, "seed": 5, "method": "mixmae", "encoder.name": "swin_nano"}
    text = markdown(built(made, planned={planned.key: row}, configs={planned.key: "{}"}))
    assert f"\nNot counted, not launched or not readable: knn/{planned.id}.\n" in text


def test_what_differs_in_more_than_the_seed_gets_a_column_of_its_own(made):
    made.add(experiment("mixmae", epochs=40), finetune=93.0)
    made.add(experiment({"name": "mixmae", "ratio": 0.25}), finetune=89.0)
    table = built(made, TABLE.model_copy(update={"stages": ("finetune",)}))
    assert table.columns == ("method", "encoder", "pretrain_epochs", "ratio")
    assert [(row.values, row.cells[0].mean) for row in table.rows[:3]] == [
        (("mixmae", "swin_nano", 20, 0.25), 89.0),
        (("mixmae", "swin_nano", 20, 0.5), 91.5),
        (("mixmae", "swin_nano", 40, 0.5), 93.0),
    ]


@pytest.mark.parametrize(
    ("more", "column"),
    [({"evaluations": {"linear": {"base_lr": 0.01}}}, "evaluation.base_lr"),
     ({"pretrain": {"epochs": 20, "batch": 64, "base_lr": 2e-3, "warmup_epochs": 1}}, "pretrain.base_lr")],
)  # fmt: skip
def test_a_field_that_has_no_short_name_is_a_column_too(made, more, column):
    made.add(experiment("mixmae", **more), linear=70.0)
    table = built(made, TABLE.model_copy(update={"stages": ("linear",)}))
    assert table.columns == ("method", "encoder", column)
    assert [(row.values[2], row.cells[0].mean) for row in table.rows if row.values[0] == "mixmae"] == (
        [(1e-3, 81.0), (0.01, 70.0)] if column.startswith("evaluation") else [(1e-3, 81.0), (2e-3, 70.0)]
    )


def test_what_no_column_tells_apart_is_never_averaged(made):
    """The images changed between two runs."""
    for run in (RunFolder(made.root, *key) for key in made.members["main"] if key[0] == "finetune"):
        config = run.read("config")
        if config["job"]["seed"] == 1:
            run.write("config", {**config, "data_fingerprint": "0" * 16})
    with pytest.raises(MixedCell, match=r"would be averaged though they differ in data_fingerprint; show them in sep"):
        built(made)


def test_where_the_data_lies_does_not_tell_runs_apart(made):
    for number, finetune in enumerate(collect(made.root).query("stage == 'finetune' and method == 'mixmae'")["id"]):
        run = RunFolder(made.root, "finetune", finetune)
        config = run.read("config")
        config["job"]["data"] = {"name": "image_folder", "path": f"/somewhere/{number}"}
        run.write("config", config)
    assert cell(built(made), row=0).n == 2


def test_references_are_named_even_where_the_method_is_no_column(made):
    spec = TableSpec(name="ratio", rows=("ratio",), stages=("linear",))
    assert [row.values for row in built(made, spec).rows] == [("mixmae", 0.5), ("simmim", 0.6), ("random init", None)]


def test_a_table_shows_its_sweeps_only(made):
    made.add(experiment("mixmae", epochs=40), sweep="epochs", finetune=93.0)
    spec = TableSpec(name="epochs", sweeps=("epochs",), rows=("pretrain_epochs",), stages=("finetune",))
    frame = collect(made.root)
    assert [row.values for row in build_table(frame, spec, declared(made)).rows] == [(40,)]
    with pytest.raises(ValueError, match="no sweep 'epochs'; write one of main"):
        build_table(frame, spec, Declaration("main", members={"main": made.members["main"]}))


def test_differing_fields_are_dotted():
    assert differing_fields('{"a":{"b":1,"c":2},"d":3}', '{"a":{"b":1,"c":4}}') == ["a.c", "d"]


# --------------------------------------------------------------------------------------------------------------- best


@pytest.fixture
def three_seeds(tmp_path):
    """MixMAE 10 above SimMIM in fine-tuning, one more or less; hardly above it in linear probing."""
    made = Made(tmp_path / "runs")
    for seed, (finetune, linear) in enumerate([(90.0, 81.0), (91.0, 80.0), (92.0, 82.0)]):
        made.add(experiment("mixmae", seed=seed), finetune=finetune, linear=linear)
    for seed, (finetune, linear) in enumerate([(80.0, 80.0), (80.0, 81.0), (83.0, 80.0)]):
        made.add(experiment("simmim", seed=seed), finetune=finetune, linear=linear)
    return made


TWO_STAGES = TableSpec(name="main", stages=("finetune", "linear"))


def test_the_best_is_bold_where_it_is_significantly_best(three_seeds):
    """Fine-tuning: differences 10, 11, 9, t = 10 / (1 / sqrt(3)) = 17.3, p = 0.0033. Linear: 1, -1, 2, p = 0.53."""
    assert markdown(built(three_seeds, TWO_STAGES)) == (
        "| method | encoder | fine-tuning | linear |\n"
        "| --- | --- | --- | --- |\n"
        "| MixMAE | swin_nano | **91.00 ± 1.00 (n=3)** | 81.00 ± 1.00 (n=3) |\n"
        "| SimMIM | swin_nano | 81.00 ± 1.73 (n=3) | 80.33 ± 0.58 (n=3) |\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
        "\n"
        f"{BOLD} {DETECTABLE}\n"
        "\n"
        "fine-tuning: MixMAE, swin_nano, corrected p at most 0.0033 (n = 3, 1 rival, smallest detectable difference "
        "3.26).\n"
        "\n"
        "linear: none, since MixMAE, swin_nano is not significantly better than SimMIM, swin_nano (corrected p = 0.53) "
        "(n = 3, 1 rival, smallest detectable difference 4.99).\n"
    )


def test_a_reference_of_one_run_is_no_rival_and_one_of_two_forbids_a_claim(three_seeds):
    three_seeds.add(experiment("supervised", seed=0), finetune=70.0)
    table = built(three_seeds, TWO_STAGES)
    assert cell(table, 0).best and "With one run, no rival: from scratch, swin_nano." in table.notes
    three_seeds.add(experiment("supervised", seed=1), finetune=71.0)
    table = built(three_seeds, TWO_STAGES)
    assert not cell(table, 0).best
    assert "fine-tuning: no claim, since fewer than three seeds are matched with some rival." in table.notes


def test_a_reference_of_one_run_that_is_highest_forbids_a_claim(three_seeds):
    three_seeds.add(experiment("supervised", seed=0), finetune=99.0)
    table = built(three_seeds, TWO_STAGES)
    assert not cell(table, 0).best
    assert "fine-tuning: no claim, since from scratch, swin_nano, with one run, is best." in table.notes


def test_a_rival_that_is_not_finished_forbids_a_claim(three_seeds):
    planned = stage_jobs(experiment("mae", seed=0), lambda data: FINGERPRINT)
    for job in planned[:2]:
        write_config(three_seeds.root, job)
        three_seeds.members["main"].add((job.stage, job.id))
    table = built(three_seeds, TWO_STAGES)
    assert [row.values[0] for row in table.rows] == ["mixmae", "simmim", "mae"]
    assert not cell(table, 0).best


# ------------------------------------------------------------------------------------------------------------- across


def test_columns_across(tmp_path):
    """Each value of `across` has a column a stage; within each the best of its own."""
    made = Made(tmp_path / "runs")
    figures = {"mixmae": {20: (90.0, 91.0, 92.0), 40: (80.0, 81.0, 81.0)}, "mae": {20: (80.0, 80.0, 83.0)}}
    figures["mae"][40] = (92.0, 94.0, 92.0)
    for method, by_epochs in figures.items():
        for epochs, by_seed in by_epochs.items():
            for seed, top1 in enumerate(by_seed):
                made.add(experiment(method, epochs=epochs, seed=seed), finetune=top1)
    made.add(experiment("supervised"), finetune=70.0)
    spec = TableSpec(name="epochs", rows=("method",), across="pretrain_epochs", stages=("finetune",))
    table = built(made, spec)
    assert markdown(table).startswith(
        "| method | fine-tuning, epochs 20 | fine-tuning, epochs 40 |\n"
        "| --- | --- | --- |\n"
        "| MixMAE | **91.00 ± 1.00 (n=3)** | 80.67 ± 0.58 (n=3) |\n"
        "| MAE | 81.00 ± 1.73 (n=3) | **92.67 ± 1.15 (n=3)** |\n"
        f"| {RULE} | {RULE} | {RULE} |\n"
        "| from scratch (control) | 70.00 (n=1) | 70.00 (n=1) |\n"
    )
    assert list(numeric(table).columns) == ["method", "standing"] + [
        f"finetune_{epochs}_{what}" for epochs in ("20", "40") for what in ("mean", "std", "n", "best")
    ]
    with pytest.raises(ValueError, match="table epochs: method is among the rows and across; leave one of them out"):
        built(made, spec.model_copy(update={"across": "method"}))


def test_a_switch_is_told_as_yes_or_no(tmp_path):
    made = Made(tmp_path)
    for dual in (True, False):
        made.add(experiment({"name": "mixmae", "dual": dual}), finetune=90.0 + dual)
    table = built(made, TableSpec(name="main", rows=("dual",), stages=("finetune",)))
    assert [row.labels[0].text() for row in table.rows] == ["no", "yes"]


def test_figures_of_images_that_were_set_aside_are_said_to_be(tmp_path):
    made = Made(tmp_path / "runs")
    evaluations = {"linear": {"measure": "tuning"}, "knn": {}}
    made.add(experiment(evaluations=evaluations, data={"name": "digits", "tuning": 0.1}), linear=50.0, knn=60.0)
    notes = built(made).notes
    assert "linear: on the images set aside as tuning, not on val." in notes
    assert not any(note.startswith("kNN: on") for note in notes)
