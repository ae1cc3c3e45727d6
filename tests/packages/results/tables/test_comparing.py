"""Tables that say what is compared: with one row, with rivals within a family, over families; against figures worked
out by hand or by scipy, and runs made for it."""

import csv
import io
import re

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_rel

from mixmae.files.records import sha256
from mixmae.presentation.declaration import TableSpec
from mixmae.runs.folder import RunFolder
from mixmae.runs.predictions import Predictions, write_predictions
from results.report.writing import write_report
from results.rows.collect import collect
from results.statistics import ALPHA, smallest_detectable
from results.tables import build_table, comma_separated, html, latex, markdown, numeric
from support.made_runs import Made, declared, experiment, write_state

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"
PRIMARY = {"evaluation": "linear", "of": {"method": "mixmae"}, "against": ["simmim", "mae"], "within": "encoder"}
SPEC = TableSpec(name="methods", stages=("linear", "knn"), primary=PRIMARY)
LINEAR = {
    ("mixmae", "swin_nano"): (60.0, 61.0, 62.5, 60.5),
    ("simmim", "swin_nano"): (50.0, 51.5, 52.0, 50.5),
    ("mae", "swin_nano"): (59.0, 61.5, 62.0, 58.5),
    ("mixmae", "pvt_nano"): (50.0, 51.0, 52.5, 53.0),
    ("simmim", "pvt_nano"): (47.0, 47.5, 50.0, 49.0),
    ("mae", "pvt_nano"): (50.5, 50.0, 53.0, 52.0),
}
"""MixMAE is 10 above SimMIM on Swin, 3 on PVT, and hardly above MAE."""


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path / "runs")
    for (method, encoder), figures in LINEAR.items():
        for seed, linear in enumerate(figures):
            made.add(experiment(method, encoder, seed=seed), linear=linear, knn=linear - 10 + seed % 2)
    return made


def built(made, spec=SPEC, **more):
    return build_table(collect(made.root), spec, declared(made, **more))


def cells(table, column=0):
    """By method and encoder."""
    return {row.values: row.cells[column] for row in table.rows}


# ------------------------------------------------------------------------------------------------------------- primary


def test_only_the_primary_comparison_is_tested_and_corrected_over_all_of_it(made):
    """p of scipy times 4, 3, 2, 1 in the order of size, none below the one before."""
    ps = {
        (method, encoder): ttest_rel(LINEAR[method, encoder], LINEAR["mixmae", encoder]).pvalue
        for method, encoder in LINEAR
        if method != "mixmae"
    }
    corrected, before = {}, 0.0
    for rank, setting in enumerate(sorted(ps, key=ps.get)):
        before = corrected[setting] = min(1.0, max(before, (4 - rank) * ps[setting]))
    table = built(made)
    linear, knn = cells(table), cells(table, 1)
    assert {setting: linear[setting].compared.corrected for setting in ps} == pytest.approx(corrected)
    decided = {setting for setting, cell in linear.items() if cell.compared and cell.compared.decided}
    assert (
        decided
        == {setting for setting in ps if corrected[setting] <= ALPHA}
        == {
            ("simmim", "swin_nano"),
            ("simmim", "pvt_nano"),
        }
    )
    assert all(cell.compared.corrected is None for setting, cell in knn.items() if setting in ps)
    assert not any(cell.best for cell in (*linear.values(), *knn.values()))
    assert linear["mixmae", "swin_nano"].compared is None


def test_differences_are_to_the_row_of_the_same_family_with_scipys_intervals(made):
    for setting, cell in cells(built(made)).items():
        if setting[0] == "mixmae":
            continue
        found = ttest_rel(LINEAR[setting], LINEAR["mixmae", setting[1]])
        compared, interval = cell.compared.comparison, found.confidence_interval(0.95)
        assert (compared.difference - compared.half, compared.difference + compared.half) == pytest.approx(
            (interval.low, interval.high)
        )
        assert compared.correlation == pytest.approx(np.corrcoef(LINEAR[setting], LINEAR["mixmae", setting[1]])[0, 1])


def test_a_table_that_decides_says_so_in_a_few_sentences_and_folds_the_rest_away(made):
    text = markdown(built(made))
    assert text.startswith(
        "| method | encoder | linear | linear, minus MixMAE | kNN | kNN, minus MixMAE |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        f"| MixMAE | swin_nano | 61.00 ± 1.08 (n=4) | {NOTHING} | 51.50 ± 1.08 (n=4) | {NOTHING} |\n"
    )
    assert f"| SimMIM | swin_nano | 51.00 ± 0.91 (n=4) | **{MINUS}10.00 \\[{MINUS}10.65, {MINUS}9.35]** * |" in text
    shown, folded = text.split("<details>")
    assert shown.count("\n\n") == 3 and folded.endswith("\n</details>\n")
    rivals = [setting for setting in LINEAR if setting[0] != "mixmae"]
    spreads = [np.std(np.subtract(LINEAR[rival], LINEAR["mixmae", rival[1]]), ddof=1) for rival in rivals]
    least, most = (find(smallest_detectable(4, spread, ALPHA / 4) for spread in spreads) for find in (min, max))
    assert (
        "Declared in the grid as what decides: linear, MixMAE against SimMIM and MAE within each encoder, "
        "4 comparisons. Differences are a row's figure minus that of MixMAE, paired over seeds, with 95 % t intervals; "
        "bold with a star where p ≤ 0.05 after Holm's correction over those: 2 of 4. All others are secondary. "
        f"It could find {least:.2f} to {most:.2f} points with 80 % power."
    ) in shown
    lines = re.findall(r"^(?:linear|kNN): .*", folded, re.MULTILINE)
    assert len(lines) == 8 and all("p = " in line for line in lines[:4]) and not any("p = " in one for one in lines[4:])
    assert lines[0].startswith(
        f"linear: SimMIM, swin_nano minus MixMAE, swin_nano {MINUS}10.00 \\[{MINUS}10.65, {MINUS}9.35], 4 seeds, "
        "r = 0.93, p = "
    )


def test_every_form_holds_what_is_compared(made):
    table = built(made)
    page, text = html(table), latex(table)
    assert '<details class="note">\n<summary>' in page and page.endswith("</details>\n")
    assert f"<strong>{MINUS}10.00 [{MINUS}10.65, {MINUS}9.35]</strong><sup>*</sup>" in page
    assert r"\textbf{$-$10.00 {[}$-$10.65, $-$9.35{]}}\textsuperscript{{*}}" in text
    assert "details" not in text and "Holm's correction counts" in text
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(comma_separated(table)))
        if (row["method"], row["encoder"]) == ("simmim", "swin_nano")
    ]
    assert float(row["linear_minus"]) == -10 and float(row["linear_minus_high"]) == pytest.approx(-9.350, abs=1e-3)
    assert (row["linear_pairs"], row["linear_decided"], row["knn_decided"]) == ("4", "True", "False")
    assert float(row["linear_corrected_p"]) <= ALPHA and row["knn_corrected_p"] == ""


def test_what_is_not_run_yet_counts_among_the_comparisons(made):
    """MAE on PVT failed but for one seed: three are tested, four are corrected for."""
    for row in collect(made.root).query("stage == 'linear' and method == 'mae' and encoder == 'pvt_nano'").itertuples():
        if row.seed:
            run = RunFolder(made.root, row.stage, row.id)
            (run.path / "result.json").unlink()
            write_state(run, "failed")
    table = built(made)
    linear = cells(table)
    p = ttest_rel(LINEAR["simmim", "swin_nano"], LINEAR["mixmae", "swin_nano"]).pvalue
    assert linear["simmim", "swin_nano"].compared.corrected == pytest.approx(4 * p)
    assert linear["mae", "pvt_nano"].compared.corrected is None
    said = " ".join(table.notes)
    assert "2 of 4" in said and "Not tested, with fewer than 3 matched seeds or no variation: 1." in said
    assert "Not counted: 3 failed." in said
    assert any(note.startswith("Not counted, failed: linear/") for note in table.folded)


def test_a_rival_that_is_better_is_marked_too(made):
    turned = {**PRIMARY, "of": {"method": "simmim"}, "against": ["mixmae"]}
    spec = TableSpec(name="methods", stages=("linear",), primary=turned)
    cell = cells(built(made, spec))["mixmae", "swin_nano"]
    assert cell.compared.decided and cell.compared.comparison.difference == pytest.approx(10)


def test_a_table_without_comparisons_is_what_it_was(made):
    table = built(made, TableSpec(name="methods", stages=("linear",)))
    assert table.folded == () and not table.has_compared(0) and "<details" not in markdown(table) + html(table)
    figures = [f"linear_{what}" for what in ("mean", "std", "n", "best")]
    assert list(numeric(table).columns) == ["method", "encoder", *figures]


def test_across_columns_are_all_of_the_primary_comparison(tmp_path):
    made = Made(tmp_path / "runs")
    for seed in range(3):
        for method, level in (("mixmae", 60.0), ("mae", 55.0)):
            for epochs in (20, 40):
                made.add(experiment(method, epochs=epochs, seed=seed), linear=level + epochs / 10 + seed * level / 50)
    primary = {"evaluation": "linear", "of": {"method": "mixmae"}, "against": ["mae"]}
    spec = TableSpec(name="t", rows=("method",), across="pretrain_epochs", stages=("linear",), primary=primary)
    (mae,) = [row for row in built(made, spec).rows if row.values == ("mae",)]
    first, second = (cell.compared for cell in mae.cells)
    assert first.corrected == second.corrected == pytest.approx(2 * first.comparison.p)


# ----------------------------------------------------------------------------------------------------------- reference


def test_ablations_are_compared_with_one_row_and_nothing_is_decided(tmp_path):
    made = Made(tmp_path / "runs")
    figures = {0.25: (58.0, 57.0, 59.5), 0.5: (60.0, 60.0, 61.0), 0.75: (55.0, 56.0, 54.0)}
    for ratio, by_seed in figures.items():
        for seed, top1 in enumerate(by_seed):
            made.add(experiment({"name": "mixmae", "ratio": ratio}, seed=seed), linear=top1)
    spec = TableSpec(name="ablation", rows=("ratio",), stages=("linear",), reference={"ratio": 0.5})
    table = built(made, spec)
    low, reference, high = (row.cells[0] for row in table.rows)
    assert reference.compared is None and not low.compared.decided and not high.compared.decided
    interval = ttest_rel(figures[0.25], figures[0.5]).confidence_interval(0.95)
    assert low.compared.comparison.half == pytest.approx((interval.high - interval.low) / 2)
    assert "| ratio | linear | linear, minus ratio 0.5 |" in markdown(table)
    said = "of ratio 0.5, paired over seeds, with 95 % t intervals; none of them decides anything."
    assert said in " ".join(table.notes)
    assert "**" not in markdown(table)


def test_a_reference_of_many_columns_is_named_below_the_table_and_not_in_its_headings(tmp_path):
    made = Made(tmp_path / "runs")
    for ratio in (0.25, 0.5):
        for seed in range(2):
            made.add(experiment({"name": "mixmae", "ratio": ratio}, seed=seed), linear=60 + ratio + seed)
    reference = {"ratio": 0.5, "dual": True, "images": 2}
    table = built(made, TableSpec(name="ablation", rows=tuple(reference), stages=("linear",), reference=reference))
    assert "| linear | linear, minus the reference |" in markdown(table)
    assert "minus that of ratio 0.5, dual yes, images 2, paired" in " ".join(table.notes)


def test_within_families_every_row_is_compared_with_the_reference_of_its_own(made):
    spec = TableSpec(name="methods", stages=("linear",), reference={"method": "mixmae"}, within="encoder")
    table = built(made, spec)
    for (method, encoder), cell in cells(table).items():
        if method == "mixmae":
            assert cell.compared is None
            continue
        wanted = np.mean(np.subtract(LINEAR[method, encoder], LINEAR["mixmae", encoder]))
        assert cell.compared.comparison.difference == pytest.approx(wanted)
        assert not cell.compared.decided
    assert "none of them decides anything." in " ".join(table.notes)


# ------------------------------------------------------------------------------------------------------------ families


def test_a_summary_averages_each_seed_over_families(made):
    summary = {"of": {"method": "mixmae"}, "against": ["simmim", "mae"]}
    table = built(made, TableSpec(name="families", stages=("linear", "knn"), summary=summary))
    averages = {
        method: np.mean([LINEAR[method, "swin_nano"], LINEAR[method, "pvt_nano"]], axis=0)
        for method in ("mixmae", "simmim", "mae")
    }
    assert [row.values for row in table.rows] == [("mixmae",), ("simmim",), ("mae",)]
    for row in table.rows:
        own, cell = averages[row.values[0]], row.cells[0]
        assert (cell.n, cell.mean, cell.std) == (4, pytest.approx(own.mean()), pytest.approx(own.std(ddof=1)))
        if row.values != ("mixmae",):
            interval = ttest_rel(own, averages["mixmae"]).confidence_interval(0.95)
            assert cell.compared.comparison.half == pytest.approx((interval.high - interval.low) / 2)
            assert cell.compared.corrected is None
    simmim = table.rows[1].estimates
    tasks = [
        mannwhitneyu(*(np.add(LINEAR[method, encoder], more) for method in ("mixmae", "simmim"))).statistic
        for encoder in ("swin_nano", "pvt_nano")
        for more in ([0, 0, 0, 0], [-10, -9, -10, -9])
    ]
    assert simmim[1].value == pytest.approx(np.mean(tasks) / 16) and table.rows[0].estimates[1] is None
    scores = sorted(
        score
        for encoder in ("swin_nano", "pvt_nano")
        for seed, linear in enumerate(LINEAR["simmim", encoder])
        for score in (linear, linear - 10 + seed % 2)
    )
    assert simmim[0].value == pytest.approx(np.mean(scores[4:12])) and simmim[0].low < simmim[0].value < simmim[0].high
    text = markdown(table)
    assert text.startswith(
        "| method | linear | linear, minus MixMAE | kNN | kNN, minus MixMAE | interquartile mean "
        "| P(MixMAE is better) |\n"
    )
    assert "averaged over 2 encoders (swin_nano, pvt_nano)" in text and "Nothing is decided here." in text
    line = next(csv.DictReader(io.StringIO(comma_separated(table))))
    assert {"iqm", "iqm_low", "better_high", "linear_minus"} <= line.keys()


def test_families_that_a_rival_lacks_are_left_out(made):
    made.add(experiment("mixmae", "twins_svt_nano"), linear=99.0, knn=99.0)
    summary = {"of": {"method": "mixmae"}, "against": ["simmim"]}
    table = built(made, TableSpec(name="families", stages=("linear",), summary=summary))
    assert "2 encoders (swin_nano, pvt_nano)" in " ".join(table.notes) and table.rows[0].cells[0].n == 4


# ------------------------------------------------------------------------------------------------------------ one seed

IMAGES = 200


def keep(root, planned, hits, copies=1):
    """Predictions of a finished run: right at `hits`."""
    run = RunFolder(root, planned.stage, planned.id)
    labels = np.arange(IMAGES) // copies % 10
    right = np.isin(np.arange(IMAGES), list(hits))
    write_predictions(run, Predictions(labels, np.where(right, labels, (labels + 1) % 10), copies))
    result = run.read("result")
    run.write("result", {**result, "files": {run.predictions.name: sha256(run.predictions)}})
    return run


def single(tmp_path, copies=1, **hits):
    """A run of linear probing a method and seed: `mixmae0` is seed 0."""
    made = Made(tmp_path / "runs")
    for name, right in hits.items():
        jobs = made.add(experiment(name[:-1], seed=int(name[-1])), linear=100 * len(right) / IMAGES)
        (linear,) = [planned for planned in jobs if planned.stage == "linear"]
        keep(made.root, linear, right, copies)
    return made


ONE = TableSpec(
    name="one", rows=("method",), stages=("linear",),
    primary={"evaluation": "linear", "of": {"method": "mixmae"}, "against": ["mae"]},
)  # fmt: skip


def test_with_one_seed_mcnemar_is_said_and_nothing_is_bold(tmp_path):
    """MixMAE alone is right at 9 images, MAE alone at 1: twice (1 + 10) / 1024."""
    made = single(tmp_path, mixmae0=range(0, 109), mae0=[*range(0, 100), 150])
    text = markdown(built(made, ONE))
    said = "linear: MAE minus MixMAE, seed 0: of 200 images, 1 are right by the first alone and 9 by the second alone, "
    assert said in text
    assert "McNemar's exact p = 0.021." in text and "**" not in text
    assert "how often it does so between two seeds of one setting is not known here" in text


def test_beside_it_stands_how_often_it_separates_two_seeds_of_a_setting(tmp_path):
    """MAE's seeds differ at 20 images in one direction, SimMIM's not at all."""
    others = {"mae0": range(100), "mae1": range(120), "simmim0": range(90), "simmim1": range(90)}
    made = single(tmp_path, mixmae0=range(110), **others)
    assert "it does so in 1 of 2 pairs (p ≤ 0.05). It sets nothing bold." in markdown(built(made, ONE))


def test_of_several_images_a_source_the_sources_are_counted(tmp_path):
    """Over 200 images MixMAE alone is right at 24, which are six sources of four: p = 2 / 2^6."""
    made = single(tmp_path, copies=4, mixmae0=range(124), mae0=range(100))
    text = markdown(built(made, ONE))
    said = "of 50 sources of 4 images each, 0 have more of them right by the first and 6 by the second, "
    assert f"linear: MAE minus MixMAE, seed 0: {said}McNemar's exact p = 0.031." in text


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_without_predictions_is_named(tmp_path, damaged):
    made = single(tmp_path, mixmae0=range(0, 110), mae0=range(0, 100))
    (row,) = collect(made.root).query("stage == 'linear' and method == 'mae'").itertuples()
    run = RunFolder(made.root, "linear", row.id)
    if damaged:
        run.predictions.write_bytes(run.predictions.read_bytes()[:-1] + b"x")
    else:
        run.predictions.unlink()
    table = built(made, ONE)
    assert "1 finished run kept no predictions that such a test needs." in table.notes
    why = "damaged" if damaged else "no such file"
    assert f"Without predictions, and not run again for them: linear/{row.id} ({why})." in table.folded
    assert "McNemar" not in " ".join(table.notes)


def test_predictions_of_other_images_are_not_compared(tmp_path):
    made = single(tmp_path, mixmae0=range(0, 110), mae0=range(0, 100))
    (row,) = collect(made.root).query("stage == 'linear' and method == 'mae'").itertuples()
    run = RunFolder(made.root, "linear", row.id)
    write_predictions(run, Predictions(np.zeros(IMAGES, dtype=int), np.zeros(IMAGES, dtype=int)))
    run.commit({"top1": 50.0, "top5": 60.0, "loss": 0.3, "epochs": 4}, [run.predictions])
    assert "McNemar" not in markdown(built(made, ONE))


def test_a_report_makes_the_table_again_where_predictions_have_come(tmp_path):
    made = single(tmp_path, mixmae0=range(0, 110), mae0=range(0, 100))
    (row,) = collect(made.root).query("stage == 'linear' and method == 'mae'").itertuples()
    path = RunFolder(made.root, "linear", row.id).predictions
    content = path.read_bytes()
    path.unlink()
    grid = declared(made, tables=(ONE,))
    write_report(collect(made.root), [grid], tmp_path / "report")
    assert "tables/one" not in write_report(collect(made.root), [grid], tmp_path / "report")
    path.write_bytes(content)
    assert "tables/one" in write_report(collect(made.root), [grid], tmp_path / "report")
    assert '<details class="note">' in (tmp_path / "report" / "index.html").read_text()
