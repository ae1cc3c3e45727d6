"""Ten steps of the released MixMAE recipes through the real loops, against plain PyTorch loops written here.

The recipes are the shipped files, shrunk in model, batch and steps alone (the absolute learning rate stays). The loops
here share with the project the model's forward pass and the images and masks it was given, and nothing else: learning
rate, parameter groups, layer decay and AdamW are written out.
"""

import copy
import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from mixmae.data.batches import Samples
from mixmae.data.draws import seed_everything
from mixmae.encoders.building import build_encoder
from mixmae.evaluations.finetune.loop import classify
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.runs.folder import RunFolder
from mixmae.training.pretrain.loop import pretrain
from support.recipe_facts import job
from support.tiny_jobs import session_in

RECIPE = "mixmae_swin_base_600ep"
SIZE, CLASSES, DEPTHS = 32, 5, (1, 2, 1)
BATCH, CHUNK, STEPS_PER_EPOCH, EPOCHS, WARMUP_EPOCHS = 8, 4, 2, 5, 2
STEPS = STEPS_PER_EPOCH * EPOCHS
PRETRAIN_BATCH, FINETUNE_BATCH = 2048, 1024
TABLE_AND_TOKEN = ("relative_position_bias_table", "mask_token")


# --------------------------------------------------------------------------------------------------- the real loops


class FixedImages:
    """A split of random images that are always the same."""

    classes = [str(number) for number in range(CLASSES)]

    def __init__(self, count: int):
        self.images = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        self.labels = [number % CLASSES for number in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        return self.images[index]


@dataclass
class Recorded:
    """What a model was called with and answered, call by call: two chunks make a step."""

    start: nn.Module
    model: nn.Module
    calls: list[tuple] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __call__(self, model, arguments, output) -> None:
        if model.training:
            self.calls.append(tuple(argument.detach().clone() for argument in arguments))
            self.losses.append(output.loss.item())


def shrunk(stage: str, released_batch: int):
    planned = job(RECIPE, stage)
    small = {"patch_size": 2, "widths": (16, 32, 64), "depths": DEPTHS, "heads": (1, 2, 4), "mlp_ratios": (4, 4, 4)}
    encoder = planned.encoder.model_copy(update={**small, "windows": (8, 8, 4)})
    size = {"batch": BATCH, "chunk": CHUNK, "epochs": EPOCHS, "warmup_epochs": WARMUP_EPOCHS}
    # The batch shrinks and so does what the learning rate is scaled by.
    update = {**size, "base_batch": planned.recipe.base_batch * BATCH / released_batch}
    recipe = planned.recipe.model_copy(update=update)
    assert recipe.lr == pytest.approx(planned.recipe.lr)
    return planned.model_copy(update={"encoder": encoder, "image_size": (SIZE, SIZE), "recipe": recipe})


def lively(model: nn.Module) -> nn.Module:
    """Large tables, tokens, biases and norms, so that ten steps show whether they decay."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith(TABLE_AND_TOKEN):
                parameter.add_(torch.randn_like(parameter))
    return model


def recorded(model: nn.Module) -> Recorded:
    record = Recorded(copy.deepcopy(model), model)
    model.register_forward_hook(record)
    return record


def samples(count: int, seed: int) -> Samples:
    return Samples(FixedImages(count), lambda image: image, seed)


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory) -> Recorded:
    planned = shrunk("pretrain", PRETRAIN_BATCH)
    small = {"decoder_depth": 1, "decoder_width": 32, "decoder_heads": 2}
    torch.manual_seed(0)
    encoder = build_encoder(planned.encoder, planned.image_size)
    method = lively(build_method(planned.method.model_copy(update=small), encoder))
    record = recorded(method)
    count = BATCH * STEPS_PER_EPOCH
    pretrain(
        session_in(RunFolder(tmp_path_factory.mktemp("run"), "stage", "id")),
        planned,
        method,
        samples(count, 0),
        list(range(count)),
    )
    return record


@pytest.fixture(scope="module")
def finetuning(tmp_path_factory) -> Recorded:
    planned = shrunk("finetune", FINETUNE_BATCH)
    torch.manual_seed(0)
    encoder = build_encoder(planned.encoder, planned.image_size, planned.recipe.drop_path)
    # The release starts with a head of 2e-5, from which ten steps would hardly get away.
    model = lively(Classifier(encoder, classes=CLASSES, head_init_std=0.1))
    record = recorded(model)
    count, folder = BATCH * STEPS_PER_EPOCH, tmp_path_factory.mktemp("run")
    classify(
        session_in(RunFolder(folder, "stage", "id")),
        planned,
        model,
        samples(count, 0),
        list(range(count)),
        samples(4, 0),
    )
    return record


# ----------------------------------------------------------------------------------------------- the independent loops


@dataclass(frozen=True)
class Plain:
    """One training set-up in plain figures."""

    lr: float
    min_lr: float
    betas: tuple[float, float]
    weight_decay: float = 0.05
    eps: float = 1e-8
    warmup_steps: int = WARMUP_EPOCHS * STEPS_PER_EPOCH
    spared: str = "nothing else"
    """Parameters without weight decay besides vectors: names that hold this."""
    vectors_decay: bool = False
    decoupled: bool = True
    corrected: bool = True
    layer_decay: float = 1.0
    head_quirk: bool = True
    merging_quirk: bool = True

    def rate(self, step: int) -> float:
        """MAE's half-cycle cosine, at the fractional epoch before the step."""
        epoch, warmup = step / STEPS_PER_EPOCH, self.warmup_steps / STEPS_PER_EPOCH
        if epoch < warmup:
            return self.lr * epoch / warmup
        way = (epoch - warmup) / (EPOCHS - warmup)
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * way))

    def scale(self, name: str) -> float:
        """The layer decay of the released fine-tuning: a layer a block, the embedding below, the head on top."""
        parts, top = name.removeprefix("encoder.").split("."), sum(DEPTHS) + 1
        if parts[0] == "patch_embed":
            layer = 0
        elif parts[0] != "layers":
            layer = top - self.head_quirk
        elif parts[2] == "downsample":
            layer = sum(DEPTHS[: int(parts[1]) + 1]) + self.merging_quirk
        else:
            layer = sum(DEPTHS[: int(parts[1])]) + int(parts[3]) + 1
        return self.layer_decay ** (top - layer)


def plain_loop(record: Recorded, plain: Plain) -> tuple[list[float], nn.Module]:
    """The mean loss of each step's chunks, and the trained model."""
    model = copy.deepcopy(record.start).train()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    first = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    second = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    chunks, losses = BATCH // CHUNK, []
    for step in range(STEPS):
        total = 0.0
        for number in range(chunks):
            seed_everything(0, "forward", step, number)
            loss = model(*record.calls[step * chunks + number]).loss / chunks
            loss.backward()
            total += loss.item()
        losses.append(total)
        for name, parameter in trained.items():
            rate = plain.rate(step) * plain.scale(name)
            decays = (plain.vectors_decay or parameter.ndim > 1) and plain.spared not in name
            adamw(parameter, first[name], second[name], step + 1, rate, plain.weight_decay * decays, plain)
    return losses, model


@torch.no_grad()
def adamw(p: Tensor, m: Tensor, v: Tensor, t: int, rate: float, decay: float, plain: Plain) -> None:
    """Loshchilov and Hutter 2019, algorithm 2; takes the gradient and clears it."""
    (beta1, beta2), gradient = plain.betas, p.grad
    p.grad = None
    if plain.decoupled:
        p -= rate * decay * p
    else:
        gradient = gradient + decay * p
    m.copy_(beta1 * m + (1 - beta1) * gradient)
    v.copy_(beta2 * v + (1 - beta2) * gradient**2)
    mean, square = (m / (1 - beta1**t), v / (1 - beta2**t)) if plain.corrected else (m, v)
    p -= rate * mean / (square.sqrt() + plain.eps)


PRETRAINING = Plain(lr=1.2e-3, min_lr=0.0, betas=(0.9, 0.95))
"""exp/base_600ep/pretrain.sh and main_pretrain.py of github.com/Sense-X/MixMIM @2b2f5a9."""
FINETUNING = Plain(lr=2e-3, min_lr=1e-6, betas=(0.9, 0.999), layer_decay=0.7)
"""exp/base_600ep/finetune.sh and main_finetune.py there."""


def loop_losses(record: Recorded) -> list[float]:
    chunks = BATCH // CHUNK
    assert len(record.losses) == STEPS * chunks
    return [sum(record.losses[step * chunks : (step + 1) * chunks]) / chunks for step in range(STEPS)]


def furthest(found: list[float], wanted: list[float]) -> float:
    """The largest relative difference of two lists of losses."""
    return max(abs(one - other) / abs(other) for one, other in zip(found, wanted, strict=True))


def apart(model: nn.Module, other: nn.Module, ending: str) -> float:
    """The largest relative distance of the parameters whose names end so."""
    pairs = zip(model.named_parameters(), other.parameters(), strict=True)
    return max(((one - two).norm() / two.norm()).item() for (name, one), two in pairs if name.endswith(ending))


def test_ten_steps_of_pretraining(pretraining):
    assert 0 < WARMUP_EPOCHS * STEPS_PER_EPOCH < STEPS - 1, "both sides of the end of the warm-up"
    losses, model = plain_loop(pretraining, PRETRAINING)
    assert loop_losses(pretraining) == pytest.approx(losses, rel=1e-6)
    for ending in TABLE_AND_TOKEN:
        assert apart(pretraining.model, model, ending) < 1e-5


def test_ten_steps_of_finetuning(finetuning):
    losses, model = plain_loop(finetuning, FINETUNING)
    assert loop_losses(finetuning) == pytest.approx(losses, rel=1e-6)
    assert apart(finetuning.model, model, TABLE_AND_TOKEN[0]) < 1e-5


@pytest.mark.parametrize("ending", TABLE_AND_TOKEN)
def test_ten_steps_without_decay_of_tables_and_token_would_be_noticed(pretraining, ending):
    """They decay too little in ten steps to change the loss by 1e-6; the weights tell."""
    _, model = plain_loop(pretraining, replace(PRETRAINING, spared=ending))
    assert apart(pretraining.model, model, ending) > 1e-4


@pytest.mark.parametrize(
    "changed",
    [
        {"betas": (0.9, 0.999)},
        {"betas": (0.8, 0.95)},
        {"weight_decay": 0.0},
        {"weight_decay": 0.04},
        {"vectors_decay": True},
        {"decoupled": False},
        {"corrected": False},
        {"warmup_steps": 5},
        {"min_lr": 1e-4},
        {"eps": 1e-6},
    ],
    ids=str,
)
def test_another_pretraining_would_be_noticed(pretraining, changed):
    losses, _ = plain_loop(pretraining, replace(PRETRAINING, **changed))
    assert furthest(losses, loop_losses(pretraining)) > 2e-6


@pytest.mark.parametrize(
    "changed",
    [
        {"head_quirk": False},
        {"merging_quirk": False},
        {"layer_decay": 0.69},
        {"betas": (0.9, 0.95)},
        {"vectors_decay": True},
        {"min_lr": 0.0},
    ],
    ids=str,
)
def test_another_finetuning_would_be_noticed(finetuning, changed):
    losses, _ = plain_loop(finetuning, replace(FINETUNING, **changed))
    assert furthest(losses, loop_losses(finetuning)) > 2e-6
