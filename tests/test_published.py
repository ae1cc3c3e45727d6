"""Published numbers: which one stands beside which run, and what is told of its setting."""

import pandas as pd
import pytest

from mixmae.presentation.declaration import Expected, PublishedRow
from results.published import differences, named, published_for, published_results, unverified

AS_PUBLISHED = {
    "stage": "finetune", "method": "mixmae", "encoder": "swin_base_w14", "data": "image_folder", "image_size": "224",
    "pretrain_epochs": 600, "epochs": 100, "ratio": 0.5, "images": 2, "fill": "image", "dual": True,
    "masked_attention": True, "mix_embedding": False, "normalised_target": True, "decoder_depth": 8,
    "decoder_width": 512, "mask_unit": None, "labels_per_class": None, "fraction": None,
    "pretrain_labels_per_class": None, "pretrain_fraction": None,
}  # fmt: skip


def test_published_numbers_are_those_of_the_official_repository():
    found = published_for(AS_PUBLISHED)
    assert (found.value, found.cited()) == (
        85.1,
        "github.com/Sense-X/MixMIM README.md @2b2f5a9: mask ratio 0.5; FT 100 ep",
    )
    assert (found.encoder, found.pretrain_epochs, found.resolution) == ("Swin-B/W14", "600", 224)
    assert published_for({**AS_PUBLISHED, "image_size": "384"}).value == 86.3
    simmim = {"method": "simmim", "encoder": "swin_base_w7", "ratio": 0.6, "mask_unit": 32, "pretrain_epochs": 800}
    assert published_for({**AS_PUBLISHED, **simmim}).value == 84.0
    assert published_for({**AS_PUBLISHED, **simmim, "pretrain_epochs": 100, "image_size": "192"}).value == 82.8
    mae = {"method": "mae", "encoder": "vit_large_p16", "ratio": 0.75, "pretrain_epochs": 1600}
    assert published_for({**AS_PUBLISHED, **mae}).value == 85.9
    assert published_for({**AS_PUBLISHED, **mae, "stage": "linear"}).value == 75.8
    scratch = {"method": "supervised", "encoder": "twins_svt_large", "pretrain_epochs": pd.NA}
    assert published_for({**AS_PUBLISHED, **scratch}).value == 83.7


@pytest.mark.parametrize(
    "other",
    [{"ratio": 0.75}, {"images": 3}, {"dual": False}, {"decoder_depth": 4}, {"data": "digits"}, {"fraction": 0.1},
     {"labels_per_class": 10}, {"pretrain_epochs": 300}, {"encoder": "swin_nano"}, {"stage": "linear"},
     {"image_size": "192"}],
)  # fmt: skip
def test_another_setting_has_no_published_number(other):
    assert published_for({**AS_PUBLISHED, **other}) is None


def test_every_published_name_is_in_the_file():
    from mixmae.encoders.families import variants
    from results.published import _ENCODERS, _METHODS

    pairs = set(zip(published_results()["method"], published_results()["encoder"], strict=True))
    for (method, encoder), published in _ENCODERS.items():
        assert encoder in variants()
        assert all((_METHODS[method], name) in pairs for name in published)


# ----------------------------------------------------------------------------------------------------- what differs


def test_a_run_as_published_differs_in_nothing():
    assert differences(AS_PUBLISHED, published_for(AS_PUBLISHED)) == ()
    scratch = {**AS_PUBLISHED, "method": "supervised", "encoder": "pvt_large", "pretrain_epochs": pd.NA, "epochs": 300}
    assert differences(scratch, published_for(scratch)) == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"pretrain_epochs": 20}, "20 epochs of pretraining, published 600"),
        ({"epochs": 10}, "10 epochs of fine-tuning, published 100"),
        ({"image_size": "32"}, "32 px, published 224"),
        ({"data": "digits"}, "digits, published ImageNet-1K"),
        ({"encoder": "swin_base_w7"}, "swin_base_w7, published Swin-B/W14"),
        ({"labels_per_class": 10}, "10 labels a class, published all"),
        ({"fraction": 0.1}, "0.1 of the labels, published all"),
        ({"pretrain_fraction": 0.5}, "pretrained on 0.5 of the images, published all"),
    ],
)
def test_what_differs_is_said_exactly(other, said):
    assert differences({**AS_PUBLISHED, **other}, published_for(AS_PUBLISHED)) == (said,)


def test_epochs_of_an_evaluation_count_where_they_were_published():
    """The repositories of Twins and PVT say theirs; of MAE's probing only the retraining does."""
    scratch = {**AS_PUBLISHED, "method": "supervised", "encoder": "pvt_large", "pretrain_epochs": pd.NA}
    assert differences(scratch, published_for(scratch)) == ("100 epochs of training, published 300",)
    mae = {"method": "mae", "encoder": "vit_base_p16", "ratio": 0.75, "pretrain_epochs": 1600, "stage": "linear"}
    assert differences({**AS_PUBLISHED, **mae}, published_for({**AS_PUBLISHED, **mae})) == ()
    row = PublishedRow(method="MAE", encoder="ViT-B/16", pretrain_epochs="300", resolution=224, task="linear_probe")
    retrained = {**AS_PUBLISHED, **mae, "pretrain_epochs": 300}
    assert differences(retrained, named(row, 60.8)) == ("100 epochs of linear probing, published 90",)
    knn = {"stage": "knn", "pretrain_epochs": 100, "epochs": pd.NA}
    lightly = PublishedRow(method="MAE", encoder="ViT-B/16", pretrain_epochs="100", resolution=224, task="knn")
    top1 = float(published_results().query("method == 'MAE' and task == 'knn'")["value"].iloc[0])
    assert differences({**retrained, **knn}, named(lightly, top1)) == ()


def test_another_window_is_another_encoder():
    """SimMIM's 84.0 is of windows of 7, shifted; MixMAE's encoder has others."""
    row = PublishedRow(method="SimMIM", encoder="Swin-B/W7", pretrain_epochs="800", resolution=224)
    ours = {**AS_PUBLISHED, "method": "simmim", "pretrain_epochs": 800}
    assert differences(ours, named(row, 84.0)) == ("swin_base_w14, published Swin-B/W7",)
    assert differences({**ours, "encoder": "swin_base_w7"}, named(row, 84.0)) == ()


# ------------------------------------------------------------------------------------------------- named by its words

RELEASED = {"method": "MixMAE", "encoder": "Swin-B/W14", "pretrain_epochs": "600", "resolution": 224}


def problems(top1, **words):
    row = PublishedRow(**{**RELEASED, **words})
    return unverified([Expected(where={"method": "mixmae"}, top1=top1, published=row)])


def test_of_sources_that_agree_the_first_is_cited():
    found = named(PublishedRow(**RELEASED), 85.1)
    assert found.source == "github.com/Sense-X/MixMIM README.md @2b2f5a9" and found.first_hand


def test_what_others_measured_is_said_to_be_theirs():
    row = PublishedRow(**{**RELEASED, "encoder": "MixMIM-B (=Swin-B/W14 without shift)", "pretrain_epochs": "300"})
    start = (
        "github.com/open-mmlab/mmpretrain @ee7f2e88 configs/mixmim/metafile.yml (not its authors): independent retrain"
    )
    assert named(row, 84.63).cited().startswith(start)


def test_an_expectation_is_verified_by_one_number_of_the_file():
    assert problems(85.1) == []
    assert unverified([Expected(where={}, top1=99.0)]) == []
    words = "method MixMAE, encoder Swin-B/W14, pretrain_epochs 600, resolution 224, task finetune"
    assert problems(85.2) == [f"published.csv has 85.1 of {words}, not 85.2; write a number it has"]
    (absent,) = problems(85.1, encoder="Swin-B")
    assert absent.startswith("published.csv has no top-1 of method MixMAE, encoder Swin-B, ")
    (unsure,) = problems(84.6, encoder="MixMIM-B", pretrain_epochs="300")
    assert unsure.startswith("84.6 of ") and "was not seen with high confidence" in unsure
    (several,) = problems(84.9, method="MAE", encoder="ViT-L/16", pretrain_epochs="800")
    assert "is the number of several settings of one source" in several
