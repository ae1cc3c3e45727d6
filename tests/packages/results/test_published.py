"""Published numbers: which one stands beside which run, and what is told of its setting."""

import pytest

from mixmae.encoders.families import variants
from mixmae.experiment.metric import TOP1
from mixmae.experiment.stages import evaluation_names
from mixmae.methods.methods import methods
from mixmae.presentation.declaration import Declaration, Expected, PublishedRow
from mixmae.presentation.shown import Shown
from results.published import differences, named_by, published_for, published_results, unverified

AS_PUBLISHED = {
    "stage": "finetune", "start": "pretrained", "method": "mixmae", "encoder.name": "swin_base_w14",
    "data.name": "image_folder", "image_size": 224, "pretrain.epochs": 600, "evaluation.epochs": 100,
}  # fmt: skip


def run(**others) -> Shown:
    """A run as published, but for some values of its row, whose dots are underscores twice."""
    row = AS_PUBLISHED | {name.replace("__", "."): value for name, value in others.items()}
    row = {f"method.{name}": value for name, value in methods[row["method"]].published().items()} | row
    return Shown((row["stage"], "0" * 16), row, "{}", name=row["stage"], declared=row)


def figure_of(**others) -> float:
    return published_for(run(**others), "top1").value


SIMMIM = {"method": "simmim", "encoder__name": "swin_base_w7"}
MAE = {"method": "mae", "encoder__name": "vit_large_p16", "pretrain__epochs": 1600}
SCRATCH = {"method": "supervised", "start": "scratch", "pretrain__epochs": None}


def test_published_numbers_are_those_of_the_official_repository():
    found = published_for(run(), "top1")
    assert (found.value, found.cited()) == (
        85.1,
        "github.com/Sense-X/MixMIM README.md @2b2f5a9: mask ratio 0.5; FT 100 ep",
    )
    assert (found.encoder, found.pretrain_epochs, found.resolution) == ("Swin-B/W14", "600", 224)
    assert figure_of(image_size=384) == 86.3
    assert figure_of(**SIMMIM, pretrain__epochs=800) == 84.0
    assert figure_of(**SIMMIM, pretrain__epochs=100, image_size=192) == 82.8
    assert figure_of(**MAE) == 85.9
    assert figure_of(**MAE, stage="linear") == 75.8
    assert figure_of(**SCRATCH, encoder__name="twins_svt_large") == 83.7


@pytest.mark.parametrize(
    "other",
    [{"method__ratio": 0.75}, {"method__images": 3}, {"method__dual": False}, {"method__decoder_depth": 4},
     {"data__name": "digits"}, {"evaluation__subset__fraction": 0.1}, {"evaluation__subset__labels_per_class": 10},
     {"pretrain__epochs": 300}, {"encoder__name": "swin_nano"}, {"stage": "linear"}, {"image_size": 192}],
)  # fmt: skip
def test_another_setting_has_no_published_number(other):
    assert published_for(run(**other), "top1") is None


def test_of_another_metric_nothing_is_published():
    assert published_for(run(), "top5") is None


def test_every_name_of_ours_in_the_file_is_one_of_the_program():
    ours = published_results()[["our_method", "our_encoder", "our_stage"]].dropna()
    assert len(ours) > 50
    for column, known in zip(ours, (methods.names(), variants(), evaluation_names()), strict=True):
        assert set(ours[column]) <= set(known)


# ----------------------------------------------------------------------------------------------------- what differs


def test_a_run_as_published_differs_in_nothing():
    assert differences(run(), published_for(run(), "top1")) == ()
    scratch = run(**SCRATCH, encoder__name="pvt_large", evaluation__epochs=300)
    assert differences(scratch, published_for(scratch, "top1")) == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"pretrain__epochs": 20}, "20 epochs of pretraining, published 600"),
        ({"evaluation__epochs": 10}, "10 epochs of fine-tuning, published 100"),
        ({"image_size": 32}, "32 px, published 224"),
        ({"data__name": "digits"}, "digits, published ImageNet-1K"),
        ({"encoder__name": "swin_base_w7"}, "swin_base_w7, published Swin-B/W14"),
        ({"evaluation__subset__labels_per_class": 10}, "10 labels a class, published all"),
        ({"evaluation__subset__fraction": 0.1}, "0.1 of the labels, published all"),
        ({"pretrain__subset__fraction": 0.5}, "pretrained on 0.5 of the images, published all"),
        ({"data__tuning": 0.1}, "0.9 of the training images, published all"),
        ({"evaluation__measure": "tuning"}, "scored on tuning images, published val"),
    ],
)
def test_what_differs_is_said_exactly(other, said):
    assert differences(run(**other), published_for(run(), "top1")) == (said,)


def test_epochs_of_an_evaluation_count_where_they_were_published():
    """The repositories of Twins and PVT say theirs; of MAE's probing only the retraining does."""
    scratch = run(**SCRATCH, encoder__name="pvt_large")
    assert differences(scratch, published_for(scratch, "top1")) == ("100 epochs of training, published 300",)
    mae = {**MAE, "encoder__name": "vit_base_p16", "stage": "linear"}
    assert differences(run(**mae), published_for(run(**mae), "top1")) == ()
    row = PublishedRow(method="MAE", encoder="ViT-B/16", pretrain_epochs="300", resolution=224, task="linear_probe")
    said = differences(run(**{**mae, "pretrain__epochs": 300}), named_by(row, 60.8, TOP1))
    assert said == ("100 epochs of linear probing, published 90",)
    knn = {**mae, "stage": "knn", "pretrain__epochs": 100, "evaluation__epochs": None}
    lightly = PublishedRow(method="MAE", encoder="ViT-B/16", pretrain_epochs="100", resolution=224, task="knn")
    top1 = float(published_results().query("method == 'MAE' and task == 'knn'")["value"].iloc[0])
    assert differences(run(**knn), named_by(lightly, top1, TOP1)) == ()


def test_another_window_is_another_encoder():
    """SimMIM's 84.0 is of windows of 7, shifted; MixMAE's encoder has others."""
    row = PublishedRow(method="SimMIM", encoder="Swin-B/W7", pretrain_epochs="800", resolution=224)
    published, ours = named_by(row, 84.0, TOP1), {**SIMMIM, "pretrain__epochs": 800}
    other = run(**{**ours, "encoder__name": "swin_base_w14"})
    assert differences(other, published) == ("swin_base_w14, published Swin-B/W7",)
    assert differences(run(**ours), published) == ()


# ------------------------------------------------------------------------------------------------- named by its words

RELEASED = {"method": "MixMAE", "encoder": "Swin-B/W14", "pretrain_epochs": "600", "resolution": 224}


def declaring(expected):
    return Declaration("made", expected=(expected,))


def problems(top1, **words):
    row = PublishedRow(**{**RELEASED, **words})
    return unverified(declaring(Expected(where={"method": "mixmae"}, top1=top1, published=row)))


def test_of_sources_that_agree_the_first_is_cited():
    found = named_by(PublishedRow(**RELEASED), 85.1, TOP1)
    assert found.source == "github.com/Sense-X/MixMIM README.md @2b2f5a9" and found.first_hand


def test_what_others_measured_is_said_to_be_theirs():
    row = PublishedRow(**{**RELEASED, "encoder": "MixMIM-B (=Swin-B/W14 without shift)", "pretrain_epochs": "300"})
    start = (
        "github.com/open-mmlab/mmpretrain @ee7f2e88 configs/mixmim/metafile.yml (not its authors): independent retrain"
    )
    assert named_by(row, 84.63, TOP1).cited().startswith(start)


def test_an_expectation_is_verified_by_one_number_of_the_file():
    assert problems(85.1) == []
    assert unverified(declaring(Expected(where={}, top1=99.0))) == []
    words = "method MixMAE, encoder Swin-B/W14, pretrain_epochs 600, resolution 224, task finetune"
    assert problems(85.2) == [f"published.csv has 85.1 of {words}, not 85.2; write a number it has"]
    (absent,) = problems(85.1, encoder="Swin-B")
    assert absent.startswith("published.csv has no top-1 of method MixMAE, encoder Swin-B, ")
    (unsure,) = problems(84.6, encoder="MixMIM-B", pretrain_epochs="300")
    assert unsure.startswith("84.6 of ") and "was not seen with high confidence" in unsure
    (several,) = problems(84.9, method="MAE", encoder="ViT-L/16", pretrain_epochs="800")
    assert "is the number of several settings of one source" in several
