"""The official recipes' augmentations as they are built, against what their sources say."""

import pytest
from timm.data.auto_augment import RandAugment
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.finetune.transform import finetuning_transform
from mixmae.training.pretrain.transform import pretraining_transform
from support.recipe_facts import FINETUNING, PRETRAINING, job

NORMALISED = ("Normalize", {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD})
# rand-m9-mstd0.5-inc1: timm's operations whose strength grows with the magnitude
OPERATIONS = [
    *("AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"),
    *("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"),
    *("ShearX", "ShearY", "TranslateXRel", "TranslateYRel"),
]


def parameters(step) -> tuple[str, dict]:
    """Class name of a transform and what it was made with."""
    kind = type(step).__name__
    if kind == "RandomResizedCropAndInterpolation":
        named = {"size": step.size, "scale": step.scale, "interpolation": step.interpolation.value}
        return kind, named | {"ratio": step.ratio}
    if kind == "Normalize":
        return kind, {"mean": tuple(step.mean.tolist()), "std": tuple(step.std.tolist())}
    wanted = {
        "RandomHorizontalFlip": ("p",),
        "RandAugment": ("num_layers",),
        "RandomErasing": ("probability", "per_pixel", "rand_color", "min_count", "max_count", "min_area", "max_area"),
        "MaybeToTensor": (),
        "CenterCrop": ("size",),
        "Resize": ("size",),
    }[kind]
    return kind, {field: getattr(step, field) for field in wanted}


def crop(size: float, least: float, interpolation: str = "bicubic") -> tuple[str, dict]:
    named = {"size": (size, size), "scale": (least, 1.0), "interpolation": interpolation, "ratio": (3 / 4, 4 / 3)}
    return "RandomResizedCropAndInterpolation", named


@pytest.mark.parametrize("name", PRETRAINING)
def test_augmentation_of_pretraining(name):
    fact, planned = PRETRAINING[name], job(name, "pretrain")
    steps = pretraining_transform(planned.recipe, planned.image_size).transforms
    # torchvision's default where nothing else is asked for, as in SimMIM's data_simmim.py
    interpolation = "bilinear" if name.startswith("simmim") else "bicubic"
    wanted = [
        crop(fact["size"], fact["crop"], interpolation),
        ("RandomHorizontalFlip", {"p": 0.5}),
        ("MaybeToTensor", {}),
    ]
    assert_steps(steps, [*wanted, NORMALISED])


@pytest.mark.parametrize("name", FINETUNING)
def test_augmentation_of_finetuning(name):
    fact, planned = FINETUNING[name], job(name, "finetune")
    steps = finetuning_transform(planned.recipe, planned.image_size).transforms
    erasing = {"probability": 0.25, "per_pixel": True, "rand_color": False, "min_count": 1, "max_count": 1}
    wanted = [
        crop(fact["size"], 0.08),
        ("RandomHorizontalFlip", {"p": 0.5}),
        ("RandAugment", {"num_layers": 2}),
        ("MaybeToTensor", {}),
        NORMALISED,
        ("RandomErasing", {**erasing, "min_area": 0.02, "max_area": 1 / 3}),
    ]
    assert_steps(steps, wanted)
    (augment,) = (step for step in steps if isinstance(step, RandAugment))
    assert [operation.name for operation in augment.ops] == OPERATIONS
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in augment.ops} == {(0.5, 9, 0.5)}


@pytest.mark.parametrize("name", FINETUNING)
def test_the_view_of_validation(name):
    fact, planned = FINETUNING[name], job(name, "finetune")
    steps = evaluation_transform(planned.image_size, planned.recipe.eval_crop).transforms
    resized = {224: 256, 384: 384}[fact["size"]]  # 256 / 224 at 224 px; nothing is cropped above it
    wanted = [("Resize", {"size": resized}), ("CenterCrop", {"size": (fact["size"], fact["size"])})]
    assert_steps(steps, [*wanted, ("MaybeToTensor", {}), NORMALISED])


def assert_steps(steps: list, wanted: list[tuple[str, dict]]) -> None:
    found = [parameters(step) for step in steps]
    assert [kind for kind, _ in found] == [kind for kind, _ in wanted]
    for (kind, made_with), (_, expected) in zip(found, wanted, strict=True):
        assert made_with.keys() == expected.keys(), kind
        for field, value in expected.items():
            exact = isinstance(value, (str, bool))
            assert made_with[field] == (value if exact else pytest.approx(value, rel=1e-6)), (kind, field)
