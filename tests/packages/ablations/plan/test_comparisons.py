"""What a table says it compares is refused, with its place in the grid file, where it could never be compared."""

import pytest

GRID = """\
base: digits_nano
set: {method: {decoder_depth: 2, decoder_width: 64, decoder_heads: 4}, evaluations.finetune: null}
sweeps:
  - name: methods
    product:
      method: [{name: mixmae, decoder_depth: 2, decoder_width: 64, decoder_heads: 4}, simmim]
      encoder: [swin_nano, pvt_nano]
  - {name: ratios, product: {method.ratio: [0.25, 0.5, 0.75]}}
tables:
"""
MAIN = "  - {name: main, sweeps: [methods], stages: [linear, knn], "
PRIMARY = "primary: {evaluation: linear, of: {method: mixmae}, against: [simmim], within: encoder}"
SUMMARY = "summary: {of: {method: mixmae}, against: [simmim], over: encoder}"


@pytest.fixture
def planned(called, tmp_path):
    """Plans the grid with a table, and returns what is said of it."""

    def plan(table: str, check: int = 0) -> str:
        (tmp_path / "grid.yaml").write_text(f"{GRID}{table}\n")
        return called("grid", "plan", "grid.yaml", folder=tmp_path, check=check)[1]

    return plan


@pytest.mark.parametrize(
    "table",
    [
        f"{MAIN}{PRIMARY}}}",
        f"{MAIN}{PRIMARY.replace('encoder}', '[encoder]}')}}}",
        f"{MAIN}{PRIMARY.replace('linear', 'linear.top1')}}}",
        f"{MAIN}{SUMMARY}}}",
        f"{MAIN}reference: {{method: mixmae, encoder: swin_nano}}}}",
        f"{MAIN}reference: {{method: mixmae}}, within: encoder}}",
        "  - {name: main, sweeps: [ratios], rows: [ratio], reference: {ratio: 0.5}}",
        "  - {name: main, sweeps: [ratios], rows: [ratio], stages: [knn],"
        " primary: {evaluation: knn, of: {ratio: 0.5}, against: [0.25, 0.75]}}",
    ],
)
def test_what_can_be_compared_is_planned(planned, table):
    assert planned(table) == ""


@pytest.mark.parametrize(
    ("compares", "message"),
    [
        (PRIMARY.replace("encoder", "ratio"), "primary: ratio is no column of the table's rows; write it in rows, too"),
        (PRIMARY.replace("mixmae", "mixmea"), "primary: no row has method mixmea; write values that are swept"),
        (PRIMARY.replace("[simmim]", "[simmim, mae]"), "primary: no row has method mae; write values that are swept"),
        (
            PRIMARY.replace(", within: encoder", ""),
            "primary: 2 rows have method mixmae; show fewer sweeps, or name what tells them apart: encoder",
        ),
        (
            PRIMARY.replace("linear", "linear.top5"),
            "primary.evaluation: the table does not show linear.top5; write linear or knn, or add it to its stages",
        ),
        (PRIMARY.replace("evaluation: linear", "evaluation: liner"), "primary.evaluation: expected"),
        (PRIMARY.replace("{method: mixmae}", "{metod: mixmae}"), "primary.of.metod: no case has metod; did you mean"),
        (PRIMARY.replace("{method: mixmae}", "{}"), "primary.of: expected at least 1"),
        (PRIMARY.replace("[simmim]", "[]"), "primary.against: expected at least 1"),
        (PRIMARY.replace("within: encoder", "within: encoders"), "primary.within: no case has encoders"),
        (
            "reference: {method: mixmae}",
            "reference: 2 rows have method mixmae; show fewer sweeps, or name what tells them apart, here or in "
            "within: encoder",
        ),
        ("reference: {method: mixmae}, within: encodr", "within: no case has encodr; did you mean encoder?"),
        (
            "reference: {method: mixmae}, within: [encoder, method]",
            "reference: no row is compared with another; write values that single rows have",
        ),
        ("reference: {method: mixmae}, within: ratio", "within: ratio is no column of the table's rows; write it in"),
        ("within: encoder", "within: goes with reference; write that too (primary has a within of its own)"),
        ("reference: {method: mae}", "reference: no row has method mae; write values that are swept"),
        (SUMMARY.replace("simmim", "mae"), "summary: no row has method mae; write values that are swept"),
        (SUMMARY.replace("over: encoder", "over: encder"), "summary.over: no case has encder; did you mean encoder?"),
        (f"{PRIMARY}, {SUMMARY}", "summary: primary says already what is compared; write only one of them"),
        (
            SUMMARY.replace("over: encoder", "over: seed"),
            "summary.over: seeds are averaged over in every table; write a column that tells families apart, such as",
        ),
        (SUMMARY.replace("over: encoder", "over: method"), "summary.over: its values are compared; write a column"),
        (
            SUMMARY.replace("{method: mixmae}", "{method: mixmae, ratio: 0.5}"),
            "summary.of: expected one column, found method and ratio; write one of them, and show sweeps in which the ",
        ),
        (SUMMARY.replace("[simmim]", "[simmim, mixmae]"), "summary.against[1]: compares method mixmae with itself; "),
        (PRIMARY.replace("simmim", "mixmae"), "primary.against[0]: compares method mixmae with itself; write other"),
        (f"across: encoder, {SUMMARY}", "across: a summary has no columns across; leave it out"),
    ],
)
def test_what_could_never_be_compared_is_refused(planned, compares, message):
    said = planned(f"{MAIN}{compares}}}", check=2)
    assert said.startswith("grid.yaml:10:") and f"tables[0].{message}" in said


def test_a_summary_over_families_that_another_column_splits_says_which(planned):
    said = planned(f"  - {{name: main, sweeps: [ratios, methods], {SUMMARY}}}", check=2)
    what = "3 rows have method mixmae, encoder swin_nano; show sweeps in which ratio does not vary"
    assert f"tables[0].summary: {what}" in said


def test_an_evaluation_that_no_case_has_decides_nothing(planned):
    table = f"{MAIN}{PRIMARY.replace('linear', 'finetune')}}}".replace("[linear, knn]", "[finetune, knn]")
    said = "tables[0].primary.evaluation: no case that it shows has finetune; write one that is measured"
    assert said in planned(table, check=2)


def test_rivals_that_agree_in_nothing_are_refused(planned):
    """SimMIM has another ratio."""
    said = "no row has method simmim beside method mixmae in the same encoder, ratio; write values that are swept"
    table = f"{MAIN}{PRIMARY.replace('encoder', '[encoder, ratio]')}, rows: [method, encoder, ratio]}}"
    assert said in planned(table, check=2)
