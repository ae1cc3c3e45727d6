"""Tables beside published numbers, and of runs at a scale, which nobody may take for the paper's."""

import pytest

from mixmae.experiment.jobs import stage_jobs
from mixmae.presentation.declaration import Expected, PublishedRow, TableSpec
from results.rows.collect import collect
from results.tables import build_table, markdown, numeric
from support.made_runs import FINGERPRINT, Made, declared, experiment, write_config

RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
MISSING, MINUS, DAGGER = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{DAGGER}"
IMAGENET = {"image_size": 224, "data": {"name": "image_folder", "path": "/images"}, "epochs": 600}
FINETUNED = {"evaluations": {"finetune": {"epochs": 100, "batch": 64, "base_lr": 1e-3}}}
SPEC = TableSpec(name="main", title="Methods", stages=("finetune",))
RELEASED = PublishedRow(method="MixMAE", encoder="Swin-B/W14", pretrain_epochs="600", resolution=224)
SIMMIM = PublishedRow(method="SimMIM", encoder="Swin-B/W7", pretrain_epochs="800", resolution=224)
README = "github.com/Sense-X/MixMIM README.md @2b2f5a9: mask ratio 0.5; FT 100 ep"


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path / "runs")


def full(made, **by_method):
    """What a grid declares of every run: what was run, with other values for a method, or several such."""
    frame = collect(made.root)
    found = {}
    for row in frame.to_dict("records"):
        own = {**row["row"], "seed": row["seed"]}
        others = by_method.get(row["method"].replace(" ", "_"), [{}])
        found[row["stage"], row["id"]] = tuple(("main", {**own, **other}) for other in others)
    return found


def built(made, spec=SPEC, **more):
    return build_table(collect(made.root), spec, declared(made, **more))


# ------------------------------------------------------------------------------------------------------- at full scale


def test_published_numbers_stand_beside_ours_with_source_and_difference(made):
    made.add(experiment("mixmae", "swin_base_w14", **IMAGENET, **FINETUNED), finetune=85.0)
    made.add(experiment("mixmae", "swin_tiny_w14", **IMAGENET, **FINETUNED), finetune=81.0)
    table = built(made)
    assert markdown(table) == (
        "### Methods\n"
        "\n"
        "| method | encoder | fine-tuning | fine-tuning, published | fine-tuning, difference |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| MixMAE | swin_tiny_w14 | 81.00 (n=1) | {MISSING} | {MISSING} |\n"
        f"| MixMAE | swin_base_w14 | 85.00 (n=1) | 85.1 [1] | {MINUS}0.10 |\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
        "\n"
        "Differences are ours minus the published number, in points.\n"
        "\n"
        "The images of image_folder are taken to be those of ImageNet-1K.\n"
        "\n"
        "Bold: the best of its column, significantly better than each rival there (two-sided paired t-test over "
        "matched seeds, Holm-corrected in the column, α = 0.05).\n"
        "\n"
        "fine-tuning: no claim, since fewer than three seeds are matched with some rival.\n"
        "\n"
        f"[1] {README}\n"
    )
    numbers = numeric(table)
    assert numbers["finetune_published"].tolist() == [None, 85.1]
    assert numbers["finetune_difference"].tolist() == [None, -0.1]


def test_what_the_grid_names_comes_before_what_was_published_of_the_setting(made):
    """And is told apart where the setting is another: these runs have other epochs and windows than SimMIM's 84.0."""
    made.add(experiment("simmim", "swin_base_w14", **IMAGENET, **FINETUNED), finetune=84.5)
    made.add(experiment("mixmae", "swin_base_w14", **IMAGENET, **FINETUNED), finetune=85.0)
    third_party = RELEASED.model_copy(
        update={"encoder": "MixMIM-B (=Swin-B/W14 without shift)", "pretrain_epochs": "300"}
    )
    expected = (
        Expected(where={"method": "simmim"}, top1=70.0),
        Expected(where={"method": "simmim"}, top1=84.0, published=SIMMIM),
        Expected(where={"method": "mixmae", "pretrain_epochs": 300}, top1=84.63, published=third_party),
        Expected(where={"method": "mixmae"}, stage="linear", top1=84.63, published=third_party),
    )
    text = markdown(built(made, expected=expected))
    assert "| MixMAE | swin_base_w14 | 85.00 (n=1) | 85.1 [1] | −0.10 |\n" in text
    assert "| SimMIM | swin_base_w14 | 84.50 (n=1) [a] | 84 [2] | +0.50 [a] |\n" in text
    assert "\n[a] 600 epochs of pretraining, published 800; swin_base_w14, published Swin-B/W7\n\n[1] " in text
    where = {"method": "mixmae", "pretrain_epochs": 600, "image_size": 224, "data": "image_folder", "ratio": 0.5}
    text = markdown(built(made, expected=(Expected(where=where, top1=84.63, published=third_party),)))
    assert "| MixMAE | swin_base_w14 | 85.00 (n=1) [a] | 84.63 [1] | +0.37 [a] |\n" in text
    assert "\n[a] 600 epochs of pretraining, published 300\n" in text


def test_a_number_that_was_not_published_is_refused(made):
    made.add(experiment("mixmae"), finetune=85.0)
    wrong = Expected(where={"method": "mixmae"}, top1=85.2, published=RELEASED)
    with pytest.raises(ValueError, match="has 85.1 of method MixMAE, .* not 85.2; write a number it has"):
        built(made, expected=(wrong,))


def test_a_setting_without_a_figure_is_not_told_apart(made):
    for planned in stage_jobs(experiment("mixmae"), lambda data: FINGERPRINT)[:2]:
        write_config(made.root, planned)
        made.members.setdefault("main", set()).add((planned.stage, planned.id))
    table = built(made, expected=(Expected(where={"method": "mixmae"}, top1=85.1, published=RELEASED),))
    text = markdown(table)
    assert f"| MixMAE | swin_nano | {MISSING} | 85.1 [1] |\n" in text
    assert "[a]" not in text
    assert numeric(table)["finetune_differs"].tolist() == [None]


def test_no_difference_is_taken_to_a_number_of_other_data(made):
    """Top-1 on digits and on ImageNet do not compare: points between them would mean nothing."""
    made.add(experiment("mixmae"), finetune=86.0)
    released = Expected(where={"method": "mixmae"}, top1=85.1, published=RELEASED)
    table = built(made, expected=(released,))
    text = markdown(table)
    assert "| MixMAE | swin_nano | 86.00 (n=1) [a] | 85.1 [1] |\n" in text
    assert "\nNo differences are given: the published numbers are of other data.\n" in text
    assert numeric(table)["finetune_difference"].tolist() == [None]
    made.add(experiment("mixmae", "swin_base_w14", **IMAGENET, **FINETUNED), finetune=85.0)
    text = markdown(built(made, expected=(released,)))
    assert f"| MixMAE | swin_nano | 86.00 (n=1) [a] | 85.1 [1] | {MISSING} |\n" in text
    assert "| MixMAE | swin_base_w14 | 85.00 (n=1) | 85.1 [1] | −0.10 |\n" in text
    assert "\nDifferences are ours minus the published number, in points; none is given where that is of" in text


# ----------------------------------------------------------------------------------------------------------- at a scale

BASE = {
    "encoder.name": "swin_base_w14",
    "image_size": 224,
    "data.name": "image_folder",
    "evaluation.subset.labels_per_class": None,
}
DECODER = {"method.decoder_depth": 8, "method.decoder_width": 512, "method.decoder_heads": 16}
SMALL = {"name": "mixmae", "decoder_depth": 2, "decoder_width": 64, "decoder_heads": 4}


def laptop(made, **more):
    """MixMAE after 10 and 20 epochs for 300 and 600, and from scratch, on few labels; MixMAE's linear probing, too."""
    for epochs, top1 in ((10, 80.0), (20, 86.0)):
        made.add(experiment(SMALL, epochs=epochs, labels=10), finetune=top1, linear=top1 - 20)
    made.add(experiment("supervised", labels=10), finetune=40.0)
    declares = full(made, mixmae=[{**BASE, **DECODER}], supervised=[{**BASE}])
    epochs = {10: 300, 20: 600, None: None}
    return {
        key: tuple((sweep, {**case, "pretrain.epochs": epochs[case.get("pretrain.epochs")]}) for sweep, case in cases)
        for key, cases in declares.items()
    }


def test_runs_at_a_scale_cannot_be_taken_for_the_papers(made):
    spec = TableSpec(name="main", title="Methods", rows=("method", "encoder", "pretrain_epochs"), stages=("finetune",))
    table = built(made, spec, scale="laptop", cases=laptop(made))
    assert markdown(table) == (
        "### Laptop scale: Methods\n"
        "\n"
        "| method | encoder | epochs | fine-tuning | fine-tuning, published |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| MixMAE | swin_nano for swin_base_w14 | 10 for 300 | 80.00 (n=1) {DAGGER} | {MISSING} |\n"
        f"| MixMAE | swin_nano for swin_base_w14 | 20 for 600 | 86.00 (n=1) {DAGGER} [a] | 85.1 [1] |\n"
        f"| {RULE} | {RULE} | {RULE} | {RULE} | {RULE} |\n"
        f"| from scratch (control) | swin_nano for swin_base_w14 | {MISSING} | 40.00 (n=1) {DAGGER} | {MISSING} |\n"
        "\n"
        "Controls start from raw pixels or random weights. Pretraining is said to pay where its best mean is at least "
        "5 points above that of the best control on the same images and labels. fine-tuning: pretraining pays: "
        "MixMAE, swin_nano for swin_base_w14, epochs 20 for 600 beats from scratch, swin_nano for swin_base_w14, the "
        "best control, by 46.00 points.\n"
        "\n"
        "Top-1 accuracy in %, mean ± std (n - 1) over n seeds.\n"
        "\n"
        "No differences are given: the published numbers are of the full scale.\n"
        "\n"
        f"{DAGGER} Laptop scale, at which nothing was published: swin_nano for swin_base_w14; epochs 10 for 300, "
        "20 for 600; decoder depth 2 for 8; decoder width 64 for 512; labels a class 10 for all; image size 32 for 224"
        "; digits for image_folder; optimisation and evaluations are those of the scale.\n"
        "\n"
        "Bold: the best of its column, significantly better than each rival there (two-sided paired t-test over "
        "matched seeds, Holm-corrected in the column, α = 0.05).\n"
        "\n"
        "fine-tuning: no claim, since fewer than three seeds are matched with some rival.\n"
        "\n"
        "[a] 20 epochs of pretraining, published 600; 4 epochs of fine-tuning, published 100; 32 px, published 224; "
        "digits, published ImageNet-1K; swin_nano, published Swin-B/W14; 10 labels a class, published all\n"
        "\n"
        f"[1] {README}\n"
    )


def test_numbers_at_a_scale_say_so(made):
    spec = TableSpec(name="main", rows=("method", "pretrain_epochs"), stages=("finetune",))
    table = built(made, spec, scale="laptop", cases=laptop(made))
    assert table.title == "Laptop scale: main"
    numbers = numeric(table)
    assert numbers["scale"].tolist() == ["laptop"] * 3
    assert numbers["pretrain_epochs"].tolist() == [300, 600, None]
    assert numbers["pretrain_epochs_run"].tolist() == [10, 20, None]
    assert numbers["finetune_differs"].tolist()[1].startswith("20 epochs of pretraining, published 600; ")


def test_columns_across_say_what_was_run_too(made):
    spec = TableSpec(name="main", rows=("method",), across="pretrain_epochs", stages=("linear",))
    header, body, _ = built(made, spec, scale="laptop", cases=laptop(made)).text()
    assert header == ["method", "linear, epochs 10 for 300", "linear, epochs 20 for 600"]
    assert body == [["MixMAE", f"60.00 (n=1) {DAGGER}", f"66.00 (n=1) {DAGGER}"]]


def test_expectations_are_of_what_is_declared(made):
    """`where` has the grid's values, not those that were run."""
    declares = laptop(made)
    asked = {"top1": 85.1, "published": RELEASED}
    as_run = Expected(where={"pretrain_epochs": 10, "encoder": "swin_nano"}, **asked)
    as_declared = Expected(where={"pretrain_epochs": 300, "encoder": "swin_base_w14", "image_size": 224}, **asked)
    spec = TableSpec(name="main", rows=("pretrain_epochs",), stages=("finetune",))

    def first(expected):
        return built(made, spec, scale="laptop", cases=declares, expected=(expected,)).rows[0].cells[0].published

    assert first(as_run) is None
    assert first(as_declared).value == 85.1


def test_runs_that_stand_for_two_settings_have_two_rows_and_are_one_rival(made):
    """At the scale, both encoders become the same one; bold is both or none, and neither is compared with itself."""
    for seed, (mixmae, mae) in enumerate([(90.0, 80.0), (91.0, 80.0), (92.0, 83.0)]):
        made.add(experiment("mixmae", seed=seed), finetune=mixmae)
        made.add(experiment("mae", seed=seed), finetune=mae)
    both = [{"encoder.name": "swin_base_w14"}, {"encoder.name": "swin_large_w14"}]
    table = built(made, scale="laptop", cases=full(made, mixmae=both, mae=both[:1]))
    found = [(row.values, row.cells[0].n, row.cells[0].best) for row in table.rows]
    assert found == [
        (("mixmae", "swin_base_w14"), 3, True),
        (("mixmae", "swin_large_w14"), 3, True),
        (("mae", "swin_base_w14"), 3, False),
    ]
    assert any("1 rival," in note for note in table.notes)


def test_what_the_grid_does_not_declare_is_what_was_run(made):
    made.add(experiment("mixmae"), finetune=85.0)
    table = built(made, scale="laptop")
    assert [label.text() for label in table.rows[0].labels] == ["MixMAE", "swin_nano"]
    assert table.title == "Laptop scale: Methods" and DAGGER in markdown(table)
