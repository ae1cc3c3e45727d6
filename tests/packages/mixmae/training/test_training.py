import math
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mixmae.data.batches import Samples, load_batches, open_split, training_keys
from mixmae.data.draws import generator, seed_everything, subset
from mixmae.encoders.building import build_encoder
from mixmae.evaluations.finetune.loop import Softening
from mixmae.evaluations.finetune.optimisation import finetuning_optimizer
from mixmae.evaluations.finetune.spec import FinetuneRecipe
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import sha256
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.training import checkpoints
from mixmae.training.feed import Feed
from mixmae.training.optimisation import learning_rate, pretraining_optimizer, schedule
from mixmae.training.pretrain.spec import PretrainRecipe
from mixmae.training.pretrain.transform import pretraining_transform
from mixmae.training.processes import Processes
from mixmae.training.recipe import Optimisation
from mixmae.training.resources import Resources
from mixmae.training.session import computation
from mixmae.work.execution import execute
from support.tiny_jobs import FINETUNE, PRETRAIN, StopAfter, experiment, lines, never, planned_runs

# ------------------------------------------------------------------------------------------------------- learning rate


def rates(recipe: Optimisation, steps_per_epoch: int, lr_scale: float = 1.0) -> list[float]:
    group = {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": lr_scale}
    optimizer = torch.optim.AdamW([group], lr=recipe.lr)
    per_step = schedule(optimizer, recipe, steps_per_epoch)
    found = []
    for step in range(recipe.epochs * steps_per_epoch):
        per_step.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
        assert learning_rate(optimizer) == pytest.approx(found[-1] / lr_scale)
    return found


def mae_rate(epoch: float, recipe: Optimisation) -> float:
    """MAE's `adjust_learning_rate`, with a warm-up that may start above zero."""
    if epoch < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * epoch / recipe.warmup_epochs
    rest = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * rest))


@pytest.mark.parametrize("warmup", [0, 2.0, 2.3])
def test_cosine_is_that_of_mae_at_every_step(warmup):
    recipe = Optimisation(epochs=10, batch=512, base_lr=1e-3, min_lr=1e-6, warmup_lr=1e-5, warmup_epochs=warmup)
    found = rates(recipe, steps_per_epoch=7)
    assert recipe.lr == 2e-3
    assert found == pytest.approx([mae_rate(step / 7, recipe) for step in range(70)], rel=1e-12)


def test_the_ends_of_the_schedule_by_hand():
    recipe = Optimisation(epochs=10, batch=256, base_lr=1.0, min_lr=0.1, warmup_lr=0.2, warmup_epochs=2.0)
    found = rates(recipe, steps_per_epoch=5)
    assert found[0] == 0.2
    assert found[9] == pytest.approx(0.2 + 0.8 * 0.9)
    assert found[10] == 1.0
    assert found[49] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 39 / 40)))


def test_multistep_decays_at_the_start_of_its_epochs():
    recipe = Optimisation(
        epochs=6, batch=256, base_lr=1.0, warmup_epochs=1.0, schedule="multistep", decay_epochs=(3, 5), decay_rate=0.1
    )
    expected = [0, 0.25, 0.5, 0.75] + [1.0] * 8 + [0.1] * 8 + [0.01] * 4
    assert rates(recipe, steps_per_epoch=4) == pytest.approx(expected)


def test_lr_scale_is_honoured():
    recipe = Optimisation(epochs=3, batch=256, base_lr=1.0, min_lr=0.01, warmup_epochs=1.0)
    assert rates(recipe, 4, lr_scale=0.3) == pytest.approx([0.3 * rate for rate in rates(recipe, 4)])


# ---------------------------------------------------------------------------------------------------- parameter groups


def classifier(family="swin"):
    job = stage_jobs(experiment("supervised", family, evaluations={"finetune": FINETUNE}), lambda data: "test")[0].job
    encoder = build_encoder(job.encoder, job.image_size)
    return Classifier(encoder, classes=10, head_init_std=0.02)


def groups_by_name(model, optimizer) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group
    assert set(found) == set(names.values())
    return found


@pytest.mark.parametrize("family", ["swin", "twins_svt", "pvt"])
def test_layer_decay_falls_from_the_head_to_the_patch_embedding(family):
    model = classifier(family)
    recipe = FinetuneRecipe(epochs=1, batch=8, base_lr=1e-3, layer_decay=0.5)
    groups = groups_by_name(model, finetuning_optimizer(model, recipe))
    layer = model.group_matcher()
    top = max(layer(name) for name in groups)
    assert groups["head.weight"]["lr_scale"] == 1.0
    assert {name: group["lr_scale"] for name, group in groups.items()} == {
        name: 0.5 ** (top - layer(name)) for name in groups
    }
    blocks = sum(model.encoder.depths) if hasattr(model.encoder, "depths") else top - 1
    assert min(group["lr_scale"] for group in groups.values()) == 0.5 ** (blocks + 1)


def test_the_released_quirk_slows_the_head_alone():
    model = classifier()
    recipe = FinetuneRecipe(epochs=1, batch=8, base_lr=1e-3, layer_decay=0.7)
    plain = groups_by_name(model, finetuning_optimizer(model, recipe))
    quirk = groups_by_name(model, finetuning_optimizer(model, recipe.model_copy(update={"head_as_last_block": True})))
    slowed = {name for name in plain if plain[name]["lr_scale"] != quirk[name]["lr_scale"]}
    assert {"head.weight", "head.bias"} < slowed
    assert all(model.group_matcher()(name) == model.encoder.last_layer for name in slowed)
    assert {quirk[name]["lr_scale"] for name in slowed} == {0.7}


@pytest.mark.parametrize("method", ["mixmae", "simmim", "mae"])
def test_weight_decay_spares_vectors_and_what_the_method_names(method):
    job = stage_jobs(experiment(method), lambda data: "test")[0].job
    model = build_method(job.method, build_encoder(job.encoder, job.image_size))
    groups = groups_by_name(model, pretraining_optimizer(model, job.recipe))
    parameters = dict(model.named_parameters())
    for name, group in groups.items():
        spared = parameters[name].ndim <= 1 or name.endswith(".bias") or name in model.no_weight_decay()
        assert group["weight_decay"] == (0.0 if spared else 0.05), name
        assert group["betas"] == (0.9, 0.95)
    assert any(group["weight_decay"] for group in groups.values())
    assert any("relative_position_bias_table" in name for name in model.no_weight_decay())


# ------------------------------------------------------------------------------------------------------------- batches


def test_a_split_smaller_than_a_batch_is_refused():
    recipe = stage_jobs(experiment(), lambda data: "test")[0].job.recipe
    assert Feed(None, list(range(100)), recipe, 0, Processes()).steps_per_epoch == 3
    with pytest.raises(ValueError, match="31 training images are fewer than one batch of 32; write batch: 31 or less"):
        Feed(None, list(range(31)), recipe, 0, Processes())


def test_softening_smooths_without_mixing():
    recipe = FinetuneRecipe(epochs=1, batch=4, base_lr=1e-3, mixup=0.0, cutmix=0.0, label_smoothing=0.2)
    images = torch.randn(3, 3, 8, 8)
    same, targets = Softening(recipe, 5)(images.clone(), torch.tensor([0, 4, 2]))
    assert torch.equal(same, images)
    np.testing.assert_allclose(targets, np.full((3, 5), 0.04) + 0.8 * np.eye(5)[[0, 4, 2]], atol=1e-7)


def test_softening_mixes_pairs_and_refuses_odd_batches():
    recipe = FinetuneRecipe(epochs=1, batch=4, base_lr=1e-3, cutmix=0.0, label_smoothing=0.0)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    np.random.seed(0)
    mixed, targets = Softening(recipe, 4)(images.clone(), labels)
    share = targets[0, 0]
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0))
    torch.testing.assert_close(targets, share * torch.eye(4) + (1 - share) * torch.eye(4).flip(0))
    for sizes in ({"batch": 5}, {"batch": 10, "chunk": 5}):
        with pytest.raises(
            ValidationError, match="mixup and cutmix pair images, 5 is odd; write an even number such as 6"
        ):
            FinetuneRecipe(epochs=1, base_lr=1e-3, **sizes)
        FinetuneRecipe(epochs=1, base_lr=1e-3, mixup=0.0, cutmix=0.0, **sizes)


def test_precision_on_a_cpu():
    product = {}
    for precision in ("auto", "float32", "bfloat16"):
        with computation(torch.device("cpu"), precision):
            product[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product == {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


# ----------------------------------------------------------------------------------------------------- stop and resume


def all_bytes(run) -> dict[str, bytes]:
    return {name: (run.path / name).read_bytes() for name in ("metrics.jsonl", "result.json")} | {
        "weights": run.weights.read_bytes()
    }


def finished(root, exp, stage):
    run = planned_runs(root, exp)[stage]
    assert execute(run, Resources(), never) == "done", run.read("state")
    return run


CASES = [(method, "swin", "pretrain") for method in ("mixmae", "simmim", "mae")]
CASES += [("mixmae", "twins_svt", "pretrain"), ("mixmae", "pvt", "pretrain"), ("supervised", "swin", "finetune")]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "family", "stage"), CASES)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, method, family, stage):
    exp = experiment(method, family, evaluations={"finetune": FINETUNE} if stage == "finetune" else {})
    straight = all_bytes(finished(tmp_path / "straight", exp, stage))
    run = planned_runs(tmp_path / "halting", exp)[stage]
    assert execute(run, Resources(), StopAfter(6)) == "stopped"
    assert run.read("state")["reason"].startswith("saved at step 6 of")
    assert len(lines(run.path / "metrics.jsonl")) == 1
    assert execute(run, Resources(), StopAfter(3)) == "stopped"
    assert execute(run, Resources(), never) == "done"
    assert all_bytes(run) == straight
    assert run.read("state")["tries"] == 3
    assert [path.name for path in run.checkpoints.iterdir()] == ["final.safetensors"]
    assert [line["epoch"] for line in lines(run.path / "timing.jsonl")] == [1, 2, 3]


def test_a_run_repeats_bit_for_bit_whatever_the_workers(tmp_path):
    exp = experiment()
    first = all_bytes(finished(tmp_path / "a", exp, "pretrain"))
    torch.rand(17)
    run = planned_runs(tmp_path / "b", exp)["pretrain"]
    assert execute(run, Resources(workers=2), never) == "done"
    assert all_bytes(run) == first
    other = finished(tmp_path / "c", experiment(seed=1), "pretrain")
    assert all_bytes(other)["metrics.jsonl"] != first["metrics.jsonl"]


def test_metrics_logged_after_the_checkpoint_are_cut_off(tmp_path):
    exp = experiment()
    straight = all_bytes(finished(tmp_path / "straight", exp, "pretrain"))
    run = planned_runs(tmp_path / "killed", exp)["pretrain"]
    assert execute(run, Resources(), StopAfter(5)) == "stopped"
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 8, "loss": 99.0, "lr": 0.0}\n{"epoch": 3, "st')
    assert execute(run, Resources(), never) == "done"
    assert all_bytes(run) == straight


def stopped_twice(root):
    run = planned_runs(root, experiment())["pretrain"]
    for asked in (3, 4):
        assert execute(run, Resources(), StopAfter(asked)) == "stopped"
    return run, sorted(run.checkpoints.glob("step-*.pt"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    straight = all_bytes(finished(tmp_path / "straight", experiment(), "pretrain"))
    run, (_, newest) = stopped_twice(tmp_path / "damaged")
    whole = newest.read_bytes()
    middle = len(whole) // 2
    newest.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "empty": b"",
        }[damage]
    )
    assert execute(run, Resources(), never) == "done"
    assert "step-00000007.pt cannot be read" in (run.path / "log.txt").read_text()
    assert all_bytes(run) == straight


def test_nothing_readable_is_an_error_not_a_fresh_start(tmp_path):
    run, paths = stopped_twice(tmp_path)
    for path in paths:
        path.write_bytes(b"broken")
    assert execute(run, Resources(), never) == "failed"
    assert "none of the checkpoints" in run.read("state")["reason"]
    assert all(path.exists() for path in paths)


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    for step in (3, 20, 100_000_000, 7):
        checkpoints.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020.pt", "step-100000000.pt"]
    assert checkpoints.load_newest(tmp_path) == {"step": 100_000_000}


def test_a_loss_that_is_no_number_fails_and_is_not_saved(tmp_path):
    run = planned_runs(tmp_path, experiment(pretrain={"base_lr": 1e30, "warmup_epochs": 0.0}))["pretrain"]
    assert execute(run, Resources(), never) == "failed"
    reason = run.read("state")["reason"]
    assert "step 7 and 6 before it, after going back once, gave no numbers: loss nan, gradient norm nan" in reason
    assert "learning rate 3.7059e+29; " in reason
    assert "lower base_lr or clip the gradient" in reason and re.search(r"images: \S+, .* and 24 more$", reason)
    assert [path.name for path in run.checkpoints.glob("*")] == ["step-00000004.pt"], "of the epoch that gave numbers"


# ------------------------------------------------------------------------------------------------------------- learning


@pytest.mark.slow
def test_the_loss_falls_and_the_log_says_what_is_done(tmp_path):
    exp = experiment(pretrain={"epochs": 8, "subset": {"fraction": 0.3}, "drop_path": 0.0, "clip_grad": 5.0})
    run = finished(tmp_path, exp, "pretrain")
    metrics = lines(run.path / "metrics.jsonl")
    assert metrics[-1]["loss"] < 0.97 * metrics[0]["loss"]
    log = (run.path / "log.txt").read_text()
    for said in (
        "learning rate 0.002 (0.002 x 32 / 32)",
        "batch of 32 images, cut into chunks of 16",
        "mixmae hides 8 of 16 units of 8 px",
    ):
        assert said in log
    weights = load_file(run.weights)
    assert any(name.startswith("encoder.") for name in weights)
    assert any(name.startswith("decoder.") for name in weights)
    steps = metrics[-1]["step"]
    assert run.read("result") == {
        "schema": 1,
        "loss": metrics[-1]["loss"],
        "epochs": 8,
        "steps": steps,
        "images": steps * 32,
        "files": {name: sha256(run.path / name) for name in ("metrics.jsonl", "checkpoints/final.safetensors")},
    }


def test_chunks_are_the_mean_of_their_losses(tmp_path):
    """One step: the loss of a batch of two chunks is the mean of the two chunks' own losses."""
    assert PRETRAIN["chunk"] * 2 == PRETRAIN["batch"]
    exp = experiment(pretrain={"subset": {"fraction": 0.03}, "epochs": 2, "drop_path": 0.0})
    run, job = planned_runs(tmp_path, exp)["pretrain"], stage_jobs(exp, lambda data: "test")[0].job
    split = open_split(job.data, "train")
    indices = subset(split.labels, job.recipe.subset, job.seed)
    assert 32 <= len(indices) < 64
    assert execute(run, Resources(), never) == "done"
    seed_everything(job.seed, "init")
    method = build_method(job.method, build_encoder(job.encoder, job.image_size, 0.0))
    samples = Samples(split, pretraining_transform(job.recipe, job.image_size), job.seed)
    images, _ = next(load_batches(samples, training_keys(indices, 32, job.seed, 2, 0), 0))
    losses = []
    for number, chunk in enumerate(images.split(16)):
        seed_everything(job.seed, "forward", 0, number)
        losses.append(method(chunk, method.draw_mask(16, generator(job.seed, "mask", 0, number))).loss.item())
    assert lines(run.path / "metrics.jsonl")[0]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_a_recipe_without_chunk_is_one_chunk():
    job = stage_jobs(experiment(pretrain={"chunk": None}), lambda data: "test")[0].job
    assert isinstance(job.recipe, PretrainRecipe) and job.recipe.chunk == 32


def test_finetuning_in_chunks_follows_the_same_gradients(tmp_path):
    """Without what is drawn chunk by chunk (mixup, drop path) the chunks change nothing but the last bits."""
    plain = {**FINETUNE, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.0}
    losses = []
    for chunk in ({}, {"chunk": 5}):
        exp = experiment("supervised", evaluations={"finetune": {**plain, **chunk}})
        losses.append([line["loss"] for line in lines(finished(tmp_path, exp, "finetune").path / "metrics.jsonl")])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_a_finetuning_chunk_of_its_own_pairs_within_it(tmp_path):
    exp = experiment("supervised", evaluations={"finetune": {**FINETUNE, "chunk": 4}})
    run = finished(tmp_path, exp, "finetune")
    whole = stage_jobs(experiment("supervised", evaluations={"finetune": FINETUNE}), lambda data: "")[0].id
    assert run.read("state")["state"] == "done" and run.id != whole
