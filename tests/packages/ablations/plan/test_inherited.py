"""What a plan says of methods that take what was made for another, and of what recipes say of methods in grids."""

import json

import pytest

from ablations.grid.file import read_grid
from ablations.plan.inherited import untuned

LIST = "sweeps: [{name: all, product: {method: [mixmae, simmim, mae]}}]\n"
TAKEN = "epochs, batch, base_lr, base_batch, warmup_epochs, weight_decay, crop_scale, flip"
OF_NANO = "of pretrain are those of digits_nano, made for mixmae"


def said(folder, text, base="", scale=None):
    (folder / "base.yaml").write_text(base)
    (folder / "grid.yaml").write_text(text)
    return untuned(folder / "grid.yaml", read_grid(folder / "grid.yaml", scale).cases, scale)


@pytest.mark.parametrize(
    ("text", "base", "lines"),
    [
        (f"base: digits_nano\n{LIST}", "", [f"simmim and mae: {TAKEN} {OF_NANO}"]),
        (
            f"base: digits_nano\nset: {{pretrain: {{epochs: 3, warmup_epochs: 0, flip: true}}}}\n{LIST}",
            "",
            [
                "simmim and mae: batch, base_lr, base_batch, weight_decay, crop_scale of pretrain are those of "
                "digits_nano, made for mixmae"
            ],
        ),
        (f"base: base.yaml\n{LIST}", "base: digits_nano\ntuned_for: [mixmae, simmim, mae]\n", []),
        (
            f"base: base.yaml\n{LIST}",
            "base: digits_nano\ntuned_for: [mixmae, mae]\n",
            [f"simmim: {TAKEN} of pretrain are those of base.yaml, made for mixmae and mae"],
        ),
        (
            f"base: base.yaml\n{LIST}",
            "base: digits_nano\nmethod: {mix_embedding: true, normalised_target: false}\ntuned_for: [mixmae]\n",
            [
                f"simmim and mae: {TAKEN} of pretrain are those of base.yaml, made for mixmae",
                "mae: normalised_target are the method's defaults, while base.yaml sets them for mixmae",
            ],
        ),
        ("base: digits_nano\nsweeps: [{name: all, product: {method: [mixmae, supervised]}}]\n", "", []),
    ],
)  # fmt: skip
def test_what_is_inherited_untuned_is_listed(tmp_path, text, base, lines):
    assert said(tmp_path, text, base) == lines


def test_a_scale_gives_its_own_recipe_to_all(tmp_path):
    text = f"base: mixmae_swin_base_600ep\nset: {{data: digits}}\n{LIST}"
    (line,) = said(tmp_path, text, scale="laptop")
    assert line == (
        "simmim and mae: base_lr, base_batch, weight_decay, crop_scale, flip of pretrain are those of digits_nano, "
        "made for mixmae"
    )


def test_grid_plan_says_it_also_as_json(tmp_path, called):
    (tmp_path / "grid.yaml").write_text(f"base: digits_nano\n{LIST}")
    out, _ = called("grid", "plan", "grid.yaml", folder=tmp_path)
    line = f"simmim and mae: {TAKEN} {OF_NANO}"
    assert line in out.splitlines()
    out, _ = called("grid", "plan", "grid.yaml", "--json", folder=tmp_path)
    assert json.loads(out)["untuned"] == [line]


def test_sweeps_take_what_is_said_of_their_methods_and_can_sweep_it(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "base: digits_nano\n"
        "set: {methods.mae.ratio: 0.5}\n"
        "sweeps:\n"
        "  - {name: lists, product: {method: [mixmae, mae, {name: mae, decoder_depth: 8}]}}\n"
        "  - name: swept\n"
        "    set: {method: mae}\n"
        "    product: {methods.mae.decoder_depth: [1, 4]}\n"
        "    exclude: [{method.decoder_depth: 4}]\n"
    )
    cases = [case.experiment.method for case in read_grid(tmp_path / "grid.yaml").cases]
    assert [(one.name, one.ratio, one.decoder_depth, one.decoder_width) for one in cases] == [
        ("mixmae", 0.5, 2, 64),
        ("mae", 0.5, 2, 64),
        ("mae", 0.5, 8, 64),
        ("mae", 0.5, 1, 64),
    ]
