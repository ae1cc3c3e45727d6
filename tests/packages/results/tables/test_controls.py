"""Controls beside methods, and an upper reference: which rows they are, and what is said of pretraining, against
sentences written by hand."""

import csv
import io

import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.declaration import TableSpec
from mixmae.runs.folder import RunFolder
from results.rows.collect import collect
from results.tables import build_table, comma_separated, html, latex, markdown
from support.made_runs import FINETUNE, FINGERPRINT, Made, declared, experiment, write_evaluation, write_state

NOTHING, RULE = "\N{EN DASH}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
RULES = (
    "Controls start from raw pixels or random weights. Pretraining is said to pay where its best mean is at least 5 "
    "points above that of the best control on the same images and labels."
)
PIXELS = {"linear": {"features": "pixels"}, "knn": {"features": "pixels"}}
PROBES = TableSpec(name="probes", stages=("linear", "knn"))
FIGURES = {
    ("mixmae", "swin_nano"): (56.0, 45.0),
    ("simmim", "swin_nano"): (33.0, 22.0),
    ("mixmae", "pvt_nano"): (44.0, 40.0),
    ("supervised", "swin_nano"): (35.0, 32.0),
    ("supervised", "pvt_nano"): (42.5, 30.0),
}
"""Linear probes and kNN."""


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for (method, encoder), (linear, knn) in FIGURES.items():
        for seed in (0, 1):
            made.add(experiment(method, encoder, seed=seed), linear=linear + seed, knn=knn + seed)
    made.add(experiment("supervised", evaluations=PIXELS), knn=41.0)
    return made


def built(made, spec=PROBES, **more):
    return build_table(collect(made.root), spec, declared(made, **more))


def pixels(made):
    """The runs that look at pixels."""
    looks = experiment("supervised", evaluations=PIXELS)
    return [job.key for job in stage_jobs(looks, lambda data: FINGERPRINT) if job.stage == "knn"]


def told(table):
    """What is said of pretraining, a sentence each."""
    notes = [note for note in table.notes if note.startswith("Controls start from")]
    assert len(notes) <= 1
    return notes[0].removeprefix(RULES).strip().removesuffix(".").split("; ") if notes else []


# -------------------------------------------------------------------------------------------------------------- pixels


def test_looking_at_pixels_is_one_run_whatever_the_encoder_and_the_method():
    def ids(seed):
        experiments = [
            experiment(method, encoder, seed=seed, evaluations=PIXELS)
            for method in ("mixmae", "supervised")
            for encoder in ("swin_nano", "twins_svt_nano", "pvt_nano")
        ]
        return {job.key for one in experiments for job in stage_jobs(one, lambda data: FINGERPRINT) if job.name}

    assert sorted(stage for stage, _ in ids(0)) == sorted(stage for stage, _ in ids(1)) == ["knn", "linear"]


def test_all_that_looks_at_pixels_is_one_row(made):
    made.add(experiment("mixmae", "pvt_nano", seed=1, evaluations=PIXELS), linear=47.0, knn=41.0)
    table = built(made)
    assert [[cell.mean for cell in row.cells] for row in table.rows if row.values[0] == "raw pixels"] == [[47.0, 41.0]]
    best = "MixMAE, swin_nano beats raw pixels, the best control, by 9.50 points"
    assert told(table)[0] == f"linear: pretraining pays: {best}"


# ---------------------------------------------------------------------------------------------------------------- rows


def test_controls_stand_below_a_rule_and_are_marked(made):
    assert markdown(built(made)).startswith(
        "| method | encoder | linear | kNN |\n"
        "| --- | --- | --- | --- |\n"
        "| MixMAE | swin_nano | 56.50 ± 0.71 (n=2) | 45.50 ± 0.71 (n=2) |\n"
        "| MixMAE | pvt_nano | 44.50 ± 0.71 (n=2) | 40.50 ± 0.71 (n=2) |\n"
        "| SimMIM | swin_nano | 33.50 ± 0.71 (n=2) | 22.50 ± 0.71 (n=2) |\n"
        f"| {RULE} | {RULE} | {RULE} | {RULE} |\n"
        "| random init (control) | swin_nano | 35.50 ± 0.71 (n=2) | 32.50 ± 0.71 (n=2) |\n"
        "| random init (control) | pvt_nano | 43.00 ± 0.71 (n=2) | 30.50 ± 0.71 (n=2) |\n"
        f"| raw pixels (control) | {NOTHING} | {NOTHING} | 41.00 (n=1) |\n"
        "\n"
        f"{RULES} "
        "linear: pretraining pays: MixMAE, swin_nano beats random init, pvt_nano, the best control, by 13.50 points; "
        "linear: MixMAE, pvt_nano beats random init, pvt_nano, the best control, by 1.50 points: less than 5; "
        "kNN: MixMAE, swin_nano beats raw pixels, the best control, by 4.50 points: less than 5; "
        "kNN: no method on pvt_nano beats raw pixels (41.00).\n"
    )


def test_every_form_has_the_rule_and_the_marks(made):
    table = built(made)
    body = latex(table).split("\\midrule\n")
    assert len(body) == 3 and body[1].count("\\\\\n") == 3 and body[2].count("(control)") == 3
    parts = html(table).split("</tbody>\n<tbody>\n")
    assert len(parts) == 2 and parts[0].count('<tr><th scope="row"') == 3 and parts[1].count("(control)</th>") == 3
    rows = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert [row["standing"] for row in rows] == [""] * 3 + ["control"] * 3
    assert [row["method"] for row in rows[3:]] == ["random init", "random init", "raw pixels"]


def test_a_table_without_controls_says_nothing_of_them(made):
    made.members["methods"] = {
        (job.stage, job.id)
        for method, encoder in FIGURES
        for job in stage_jobs(experiment(method, encoder), lambda data: FINGERPRINT)
        if method != "supervised"
    }
    table = built(made, PROBES.model_copy(update={"sweeps": ("methods",)}))
    assert told(table) == [] and RULE not in markdown(table)
    assert html(table).count("<tbody>") == 1 and "standing" not in comma_separated(table)


def test_a_table_of_controls_alone_needs_no_rule(made):
    made.members["controls"] = set(pixels(made))
    table = built(made, PROBES.model_copy(update={"sweeps": ("controls",)}))
    assert [row.standings for row in table.rows] == [("control",)]
    assert RULE not in markdown(table) and told(table) == [""]


# ----------------------------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("best", "control", "said"),
    [
        (55.0, 50.0, "pretraining pays: MixMAE, swin_nano beats raw pixels, the best control, by 5.00 points"),
        (54.3, 49.3, "pretraining pays: MixMAE, swin_nano beats raw pixels, the best control, by 5.00 points"),
        (54.98, 50.0, "MixMAE, swin_nano beats raw pixels, the best control, by 4.98 points: less than 5"),
        (50.01, 50.0, "MixMAE, swin_nano beats raw pixels, the best control, by 0.01 points: less than 5"),
        (50.0, 50.0, "no method beats raw pixels (50.00)"),
        (20.0, 50.0, "no method beats raw pixels (50.00)"),
    ],
)
def test_pretraining_pays_from_five_points_above_the_best_control(tmp_path, best, control, said):
    made = Made(tmp_path / "runs")
    made.add(experiment("mixmae"), knn=best)
    made.add(experiment("mae"), knn=min(best, 19.0))
    made.add(experiment("supervised"), knn=min(control, 12.0))
    made.add(experiment("supervised", evaluations=PIXELS), knn=control)
    assert told(built(made, TableSpec(name="knn", stages=("knn",)))) == [f"kNN: {said}"]


def test_a_figure_that_is_no_share_is_not_spoken_of(made):
    table = built(made, TableSpec(name="loss", stages=("linear.loss", "linear.top5")))
    assert [sentence.split(":")[0] for sentence in told(table)] == ["linear, top-5"] * 2


def test_a_column_without_a_control_says_so(made):
    made.add(experiment("mixmae"), finetune=90.0)
    table = built(made, TableSpec(name="all", stages=("finetune", "knn")))
    said = "fine-tuning: nothing is said of pretraining, since no control stands beside MixMAE, swin_nano"
    assert told(table)[0] == said


def test_before_a_control_is_done_nothing_is_said(made):
    run = RunFolder(made.root, *pixels(made)[0])
    (run.path / "result.json").unlink()
    write_state(run, "running")
    assert told(built(made))[-1] == "kNN: nothing is said of pretraining before raw pixels is done"


@pytest.mark.parametrize("across", [False, True])
def test_a_control_counts_for_the_same_labels_alone(tmp_path, across):
    """From scratch, all labels lie above what MixMAE makes of five a class."""
    made = Made(tmp_path / "runs")
    for labels, mixmae, scratch in ((5, 60.0, 40.0), (None, 90.0, 88.0)):
        made.add(experiment("mixmae", labels=labels), finetune=mixmae)
        made.add(experiment("supervised", labels=labels), finetune=scratch)
    rows = ("method",) if across else ("method", "labels_per_class")
    asked = {"across": "labels_per_class"} if across else {}
    few, every = told(built(made, TableSpec(name="labels", rows=rows, stages=("finetune",), **asked)))
    assert few.replace(", labels a class 5", "") == (
        "fine-tuning: pretraining pays: MixMAE beats from scratch, the best control, by 20.00 points"
    )
    assert every.replace(f", labels a class {NOTHING}", "") == (
        "fine-tuning: MixMAE beats from scratch, the best control, by 2.00 points: less than 5"
    )


def test_a_control_counts_for_the_same_images_alone(tmp_path):
    """Raw pixels of the plain digits are above all else."""
    made = Made(tmp_path / "runs")
    for data, mixmae, pixels in (("digits", 90.0, 95.0), ("placed_digits", 45.0, 30.0)):
        made.add(experiment("mixmae", data={"name": data}), knn=mixmae)
        made.add(experiment("supervised", data={"name": data}, evaluations=PIXELS), knn=pixels)
    placed = "placed_digits"
    assert told(built(made, TableSpec(name="data", rows=("method", "data"), stages=("knn",)))) == [
        "kNN: no method beats raw pixels, digits (95.00)",
        f"kNN: pretraining pays: MixMAE, {placed} beats raw pixels, {placed}, the best control, by 15.00 points",
    ]


def test_across_what_is_of_pretraining_alone_a_control_serves_every_column(tmp_path):
    made = Made(tmp_path / "runs")
    for epochs, knn in ((20, 50.0), (40, 60.0)):
        made.add(experiment("mixmae", epochs=epochs), knn=knn)
    made.add(experiment("supervised", evaluations=PIXELS), knn=52.0)
    table = built(made, TableSpec(name="epochs", rows=("method",), across="pretrain_epochs", stages=("knn",)))
    assert [figures.text() for figures in table.figures] == ["kNN, epochs 20", "kNN, epochs 40"]
    assert [cell.mean for cell in table.rows[1].cells] == [52.0, 52.0]
    assert told(table) == [
        "kNN, epochs 20: no method beats raw pixels (52.00)",
        "kNN, epochs 40: pretraining pays: MixMAE beats raw pixels, the best control, by 8.00 points",
    ]


def test_where_rows_are_compared_the_controls_are_told_too(made):
    primary = {"evaluation": "linear", "of": {"method": "mixmae"}, "against": ["simmim"], "within": "encoder"}
    table = built(made, PROBES.model_copy(update={"primary": TableSpec(name="p", primary=primary).primary}))
    assert told(table) == told(built(made)) and [row.standings for row in table.rows[3:]] == [("control",)] * 3


# ----------------------------------------------------------------------------------------------------- upper reference


def trained_with_labels(made, seeds, **figures):
    """What evaluations make of encoders that were trained from scratch with all labels."""
    after = {name: {"start": "finetune"} for name in ("linear", "knn")}
    for seed in range(seeds):
        what = experiment("supervised", seed=seed, evaluations={"finetune": FINETUNE, **after})
        made.add(what, **{name: figure + 0.9 * seed for name, figure in figures.items()})


def test_what_was_trained_with_labels_beforehand_is_an_upper_reference_and_no_control(made):
    before = told(built(made))
    trained_with_labels(made, 2, finetune=70.0, linear=90.0, knn=80.0)
    table = built(made)
    assert [row.standings for row in table.rows] == [()] * 3 + [("upper reference",)] + [("control",)] * 3
    assert "| from scratch (upper reference) | swin_nano | 90.45 ± 0.64 (n=2) |" in markdown(table)
    assert told(table) == before
    note = "Trained with labels beforehand, an upper reference and no rival: from scratch, swin_nano (linear, kNN)."
    assert note in table.notes


def test_a_row_may_be_a_control_in_one_column_and_an_upper_reference_in_another(made):
    made.add(experiment("mixmae"), finetune=90.0)
    trained_with_labels(made, 1, finetune=70.0, linear=95.0)
    table = built(made, TableSpec(name="both", stages=("finetune", "linear")))
    assert "| from scratch (upper reference, control) | swin_nano | 70.00 (n=1) | 95.00 (n=1) |" in markdown(table)
    said = "pretraining pays: MixMAE, swin_nano beats from scratch, swin_nano, the best control, by 20.00 points"
    assert told(table)[0] == f"fine-tuning: {said}"


def test_fine_tuning_again_from_what_labels_trained_stands_apart_from_fine_tuning_from_scratch(made):
    """The encoder is trained with labels by an evaluation of its own; the table gains what tells both apart."""
    made.add(experiment("mixmae"), finetune=85.0)
    made.add(experiment("supervised"), finetune=70.0)
    named = {"labels": {"kind": "finetune", **FINETUNE}, "finetune": {**FINETUNE, "start": "labels"}}
    for job in stage_jobs(experiment("supervised", evaluations=named), lambda data: FINGERPRINT):
        write_evaluation(made.root, job, 92.0 if job.name == "finetune" else 70.0)
        if job.name == "finetune":
            made.members["main"].add(job.key)
    table = built(made, TableSpec(name="all", stages=("finetune",)))
    assert table.columns == ("method", "encoder", "start")
    assert [(row.values[2], row.standings) for row in table.rows] == [
        ("pretraining", ()),
        ("finetune", ("upper reference",)),
        ("scratch", ("control",)),
    ]
    assert told(table)[0].endswith("beats from scratch, swin_nano, start scratch, the best control, by 15.00 points")


def test_an_upper_reference_is_no_rival(tmp_path):
    """MixMAE is significantly better than SimMIM; what was trained with labels is above both, with three seeds."""
    made = Made(tmp_path / "runs")
    for seed in range(3):
        made.add(experiment("mixmae", seed=seed), linear=80.0 + seed)
        made.add(experiment("simmim", seed=seed), linear=70.0 + 1.1 * seed)
    trained_with_labels(made, 3, finetune=70.0, linear=95.0)
    table = built(made, TableSpec(name="all", stages=("linear",)))
    assert [row.cells[0].best for row in table.rows] == [True, False, False]


@pytest.mark.parametrize("stage", ["linear", "knn", "finetune"])
def test_every_start_of_which_nothing_was_trained_is_a_controls(tmp_path, stage):
    made = Made(tmp_path / "runs")
    made.add(experiment("supervised"), **{stage: 50.0})
    (row,) = built(made, TableSpec(name="one", stages=(stage,))).rows
    assert row.standings == ("control",)
