"""What the sources of the official recipes say, as tables; held against the recipes by test_recipe_facts.py and others.

Sources, unless a line says otherwise: MixMAE github.com/Sense-X/MixMIM @2b2f5a9 (exp/base_600ep/*.sh, main_*.py,
util/lr_decay.py, util/datasets.py); mmpretrain @ee7f2e88 (configs/mixmim); SimMIM github.com/microsoft/SimMIM @d3e29bc
(configs/, config.py, optimizer.py, data/); MAE github.com/facebookresearch/mae @efb2a80 (PRETRAIN.md, FINETUNE.md,
util/); GreenMIM github.com/LayneH/GreenMIM @b981012 (scripts/, ft_configs/, run with SimMIM's code); Swin
github.com/microsoft/Swin-Transformer @f82860b; Twins github.com/Meituan-AutoML/Twins @c1ff671; PVT
github.com/whai362/PVT @57e2dfa.
"""

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.reading import read_experiment


@cache
def experiment(name: str):
    """The recipe as an experiment on a folder of images."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(f"base: {name}\ndata: {{path: images}}\n", encoding="utf-8")
        return read_experiment(path)[0]


def job(name: str, stage: str):
    """The recipe's resolved stage job: "pretrain" or "finetune"."""
    return next(planned.job for planned in stage_jobs(experiment(name), lambda data: "") if planned.stage == stage)


def table(text: str) -> dict[str, dict]:
    """Rows by their first column; figures as numbers, "-" as None."""
    head, *lines = (line.split() for line in text.strip().splitlines())
    return {line[0]: dict(zip(head[1:], map(_cell, line[1:]), strict=True)) for line in lines}


def _cell(text: str):
    if text == "-":
        return None
    return float(text) if re.fullmatch(r"[0-9.e-]+", text) else text


# lr, min and start are absolute learning rates: the largest, the last and the first. A drop is a factor of 0.1.
PRETRAINING = table("""
recipe                        size  epochs  batch  chunk  lr      min   start   warmup  drop  beta2  clip  path  crop
mixmae_swin_base_600ep        224   600     2048   128    1.2e-3  0     0       40      -     0.95   -     0     0.2
mixmae_paper_swin_base_600ep  224   600     2048   128    1.2e-3  0     0       40      -     0.95   -     0     0.2
mixmae_swin_base_384          224   600     2048   128    1.2e-3  0     0       40      -     0.95   -     0     0.2
mixmae_swin_large_600ep       224   600     2048   128    1.2e-3  0     0       40      -     0.95   -     0     0.2
mixmae_swin_base_300ep        224   300     2048   128    1.2e-3  0     1.2e-7  40      -     0.95   -     0     0.2
simmim_swin_base_100ep        192   100     2048   2048   8e-4    4e-5  4e-6    10      -     0.999  5     0     0.67
simmim_swin_base_800ep        192   800     2048   2048   4e-4    0     2e-6    10      700   0.999  5     0     0.67
simmim_swin_large_800ep       192   800     2048   2048   4e-4    0     2e-6    10      700   0.999  5     0     0.67
simmim_vit_base_800ep         224   800     2048   2048   4e-4    0     2e-6    10      700   0.999  5     0.1   0.67
mae_vit_base_1600ep           224   1600    4096   4096   2.4e-3  0     0       40      -     0.95   -     0     0.2
mae_vit_large_800ep           224   800     4096   4096   2.4e-3  0     0       40      -     0.95   -     0     0.2
mae_swin_base_w7              224   200     4688   586    2.746875e-3  0  0     40      -     0.95   -     0     0.2
mae_swin_large_w14            224   800     2048   256    8e-4    0     0       40      -     0.95   -     0     0.2
mae_twins_svt_large           224   100     4096   512    2.4e-3  0     0       40      -     0.95   -     0     0.2
""")

# layer: the layer-decay factor; head: standard deviation of the head's first weights; test: side of the central crop.
FINETUNING = table("""
recipe                        size  epochs  batch  chunk  lr      min      start  warmup  layer  clip  path  head  jitter  test
mixmae_swin_base_600ep        224   100     1024   128    2e-3    1e-6     0      5       0.7    -     0.1   2e-5  -       0.875
mixmae_paper_swin_base_600ep  224   100     1024   128    2e-3    1e-6     0      5       0.7    -     0.1   2e-5  -       0.875
mixmae_swin_base_384          384   100     1024   128    2e-3    1e-6     0      5       0.7    -     0.1   2e-5  -       1
mixmae_swin_large_600ep       224   100     1024   128    2e-3    1e-6     0      5       0.7    -     0.2   2e-5  -       0.875
mixmae_swin_base_300ep        224   100     1024   128    2e-3    1e-6     2e-9   5       0.7    -     0.1   2e-5  -       0.875
simmim_swin_base_100ep        224   100     2048   128    5e-3    1e-6     1e-6   20      0.9    5     0.1   0.02  0.4     0.875
simmim_swin_base_800ep        224   100     2048   128    5e-3    1e-6     1e-6   20      0.8    5     0.1   0.02  0.4     0.875
simmim_swin_large_800ep       224   100     2048   -      5e-3    1e-6     1e-6   20      0.7    5     0.2   0.02  0.4     0.875
simmim_vit_base_800ep         224   100     2048   -      5e-3    1e-6     1e-6   20      0.65   5     0.1   2e-5  0.4     0.875
mae_vit_base_1600ep           224   100     1024   32     2e-3    1e-6     0      5       0.65   -     0.1   2e-5  -       0.875
mae_vit_large_800ep           224   50      1024   32     4e-3    1e-6     0      5       0.75   -     0.2   2e-5  -       0.875
mae_swin_base_w7              224   100     1024   -      2.5e-3  5e-7     5e-7   20      0.9    5     0.1   0.02  0.4     0.875
mae_swin_large_w14            224   100     768    48     1.5e-3  5.25e-7  3e-7   20      0.8    5     0.3   0.02  0.4     0.875
mae_twins_svt_large           224   100     1024   -      2.5e-3  5e-7     5e-7   20      0.9    5     0.1   0.02  0.4     0.875
supervised_swin_tiny          224   300     1024   128    1e-3    1e-5     1e-6   20      1      5     0.2   0.02  0.4     0.875
supervised_swin_small         224   300     1024   128    1e-3    1e-5     1e-6   20      1      5     0.3   0.02  0.4     0.875
supervised_swin_base          224   300     1024   128    1e-3    1e-5     1e-6   20      1      5     0.5   0.02  0.4     0.875
supervised_twins_svt_base     224   300     1024   128    1e-3    1e-5     1e-6   5       1      5     0.3   0.02  0.4     0.875
supervised_pvt_tiny           224   300     1024   128    1e-3    1e-5     1e-6   5       1      -     0.1   0.02  0.4     0.875
supervised_pvt_small          224   300     1024   128    1e-3    1e-5     1e-6   5       1      -     0.1   0.02  0.4     0.875
supervised_pvt_medium         224   300     1024   128    1e-3    1e-5     1e-6   5       1      1     0.3   0.02  0.4     0.875
supervised_pvt_large          224   300     1024   128    1e-3    1e-5     1e-6   5       1      1     0.3   0.02  0.4     0.875
""")  # noqa: E501

TABLES = r"relative_position_bias_table$"
# Which parameters of more than one dimension have no weight decay: in pretraining, in fine-tuning.
SPARED = {
    # timm's rule alone, in both (main_pretrain.py, util/lr_decay.py with an empty list)
    **dict.fromkeys((name for name in PRETRAINING if name.startswith("mixmae")), (None, None)),
    # paramwise_cfg: keys "bias", which the tables' name holds, and ".bias", which it does not hold
    "mixmae_swin_base_300ep": (TABLES, None),
    # optimizer.py: pretraining looks for "encoder.relative_position_bias_table" in names, which none has
    **dict.fromkeys((name for name in PRETRAINING if name.startswith("simmim_swin")), (r"^mask_token$", TABLES)),
    "simmim_vit_base_800ep": (r"^encoder\.cls_token$", r"^encoder\.cls_token$"),
    # main_pretrain.py: timm's rule alone; main_finetune.py: timm's ViT.no_weight_decay
    **dict.fromkeys(("mae_vit_base_1600ep", "mae_vit_large_800ep"), (None, r"^encoder\.(cls_token|pos_embed)$")),
    **dict.fromkeys(("mae_swin_base_w7", "mae_swin_large_w14"), (None, TABLES)),
    "mae_twins_svt_large": (None, r"^encoder\.pos_block\."),
    # no_weight_decay of each model
    **dict.fromkeys(("supervised_swin_tiny", "supervised_swin_small", "supervised_swin_base"), (None, TABLES)),
    "supervised_twins_svt_base": (None, r"^encoder\.pos_block\."),
    **dict.fromkeys((f"supervised_pvt_{size}" for size in ("tiny", "small", "medium", "large")), (None, None)),
}

# Layers above a parameter: its learning rate is lr * layer ** this.
_BLOCKS = {"encoder.layers.0.blocks.0.attn.qkv.weight": 24, "encoder.layers.3.blocks.1.mlp.fc2.bias": 1}
_SWIN = {
    "encoder.patch_embed.proj.weight": 25,
    "encoder.patch_embed.norm.bias": 25,
    **_BLOCKS,
    "encoder.layers.1.blocks.0.attn.relative_position_bias_table": 22,
    "encoder.layers.2.blocks.9.attn.proj.weight": 11,
}
_MERGING_BEFORE = {"encoder.layers.0.downsample.reduction.weight": 23, "encoder.layers.2.downsample.norm.weight": 3}
_MERGING_AFTER = {"encoder.layers.0.downsample.reduction.weight": 22, "encoder.layers.2.downsample.norm.weight": 2}
_TOP = {"encoder.norm.weight": 0, "head.weight": 0, "head.bias": 0}


def vit(depth: int) -> dict[str, int]:
    below = ("encoder.cls_token", "encoder.patch_embed.proj.weight", "encoder.patch_embed.proj.bias")
    middle, last = depth // 2, depth - 1
    return {
        **dict.fromkeys(below, depth + 1),
        "encoder.blocks.0.attn.qkv.weight": depth,
        f"encoder.blocks.{middle}.norm1.weight": depth - middle,
        f"encoder.blocks.{last}.mlp.fc1.bias": 1,
        **_TOP,
    }


LAYERS_ABOVE = {
    # util/lr_decay.py: final norm and head have the last block's id, a merging that of the block after it
    **dict.fromkeys(
        (name for name in PRETRAINING if name.startswith("mixmae")),
        {**_SWIN, **_MERGING_AFTER, "encoder.norm.weight": 1, "head.weight": 1, "head.bias": 1},
    ),
    # mmpretrain's MixMIMTransformer.get_layer_depth (the final norm, 1 there, is told in the recipe's Differs)
    "mixmae_swin_base_300ep": {**_SWIN, **_MERGING_BEFORE, **_TOP},
    # optimizer.py, get_swin_layer and get_vit_layer
    **dict.fromkeys(
        [name for name in PRETRAINING if name.startswith(("simmim_swin", "mae_swin"))],
        {**_SWIN, **_MERGING_BEFORE, **_TOP},
    ),
    "simmim_vit_base_800ep": vit(12),
    # util/lr_decay.py
    "mae_vit_base_1600ep": {**vit(12), "encoder.pos_embed": 13},
    "mae_vit_large_800ep": {**vit(24), "encoder.pos_embed": 25},
}
