"""Mistakes in files, and the commands that meet them. What was said of each at first is kept in mistakes.json."""

HEAD = "method: {name: mixmae, decoder_depth: 1, decoder_width: 16, decoder_heads: 2}\nencoder: swin_nano\nimage_size: 32\n"
TRAIN = "pretrain: {epochs: 5, batch: 64, base_lr: 1e-3}\n"
FINETUNE = "epochs: 4, batch: 64, base_lr: 1e-3"

EXPERIMENTS = {
    "empty": "",
    "a list": "- method: mixmae\n",
    "a tab": "method:\n\tname: mixmae\n",
    "no method": "encoder: swin_nano\n" + TRAIN,
    "no encoder": "method: mixmae\n" + TRAIN,
    "unknown field": HEAD + TRAIN + "sead: 3\n",
    "unknown field without a near one": HEAD + TRAIN + "zzz: 3\n",
    "unknown method": "method: mixmea\nencoder: swin_nano\n" + TRAIN,
    "unknown method without a near one": "method: zzz\nencoder: swin_nano\n" + TRAIN,
    "method is a number": "method: 3\nencoder: swin_nano\n" + TRAIN,
    "method is a list": "method: [mixmae]\nencoder: swin_nano\n" + TRAIN,
    "method without name": "method: {ratio: 0.5}\nencoder: swin_nano\n" + TRAIN,
    "unknown field of a method": "method: {name: mixmae, ration: 0.5}\nencoder: swin_nano\n" + TRAIN,
    "field of another method": "method: {name: simmim, images: 3}\nencoder: swin_nano\n" + TRAIN,
    "ratio too large": "method: {name: mae, ratio: 1.5}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "ratio is text": "method: {name: mae, ratio: half}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "ratio hides nothing": "method: {name: mixmae, ratio: 0.01}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "images": "method: {name: mixmae, images: 5}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "fill": "method: {name: mixmae, fill: zeros}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "fill with mixing": "method: {name: mixmae, fill: zero, dual: true}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "decoder": "method: {name: mae, decoder_width: 30}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "not divided by the images": "method: {name: mixmae, images: 3}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "mixmae on vit": "method: mixmae\nencoder: vit_base_p16\n" + TRAIN,
    "mask unit": "method: {name: simmim, mask_unit: 5}\nencoder: swin_nano\nimage_size: 32\n" + TRAIN,
    "no pretrain recipe": HEAD,
    "unknown variant": "method: mixmae\nencoder: swin_bose_w14\n" + TRAIN,
    "unknown variant without a near one": "method: mixmae\nencoder: zzz\n" + TRAIN,
    "unknown family": "method: mixmae\nencoder: {family: swim, widths: [8, 16], depths: [1, 1], heads: [1, 1]}\n"
    + TRAIN,
    "windows of pvt": "method: mixmae\nencoder: {name: pvt_nano, windows: [4, 4, 4]}\nimage_size: 32\n" + TRAIN,
    "shift of twins": "method: mixmae\nencoder: {name: twins_svt_nano, shift: true}\nimage_size: 32\n" + TRAIN,
    "windows": "method: mixmae\nencoder: {name: swin_nano, windows: half}\nimage_size: 32\n" + TRAIN,
    "two windows": "method: mixmae\nencoder: {name: swin_nano, windows: [4, 4]}\nimage_size: 32\n" + TRAIN,
    "one window": "method: mixmae\nencoder: {name: swin_nano, windows: [4]}\nimage_size: 32\n" + TRAIN,
    "heads": "method: mixmae\nencoder: {name: swin_nano, heads: [3, 2, 4]}\nimage_size: 32\n" + TRAIN,
    "image size": HEAD.replace("32", "33") + TRAIN,
    "image size is text": HEAD.replace("32", "big") + TRAIN,
    "image size of three": HEAD.replace("32", "[32, 32, 32]") + TRAIN,
    "unknown data": HEAD + "data: digit\n" + TRAIN,
    "unknown data without a near one": HEAD + "data: zzz\n" + TRAIN,
    "folder without path": HEAD + "data: image_folder\n" + TRAIN,
    "unknown field of data": HEAD + "data: {name: digits, path: here}\n" + TRAIN,
    "no such folder": HEAD + "data: {name: image_folder, path: nowhere}\n" + TRAIN,
    "no such variable": HEAD + "data: {name: image_folder, path: $FROZEN_NOWHERE}\n" + TRAIN,
    "epochs": HEAD + "pretrain: {epochs: 0, batch: 64, base_lr: 1e-3}\n",
    "no batch": HEAD + "pretrain: {epochs: 3, base_lr: 1e-3}\n",
    "warmup": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, warmup_epochs: 3}\n",
    "two warmups": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, warmup_epochs: 1, warmup_steps: 3}\n",
    "schedule": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, schedule: multistep}\n",
    "chunk": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, chunk: 10}\n",
    "precision": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, precision: bf16}\n",
    "subset": HEAD + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, subset: {fraction: 2}}\n",
    "two subsets": HEAD
    + "pretrain: {epochs: 3, batch: 64, base_lr: 1e-3, subset: {fraction: 0.2, labels_per_class: 3}}\n",
    "batch too large": HEAD + "pretrain: {epochs: 3, batch: 2000, base_lr: 1e-3}\n",
    "unknown evaluation": HEAD + TRAIN + "evaluations: {finetuning: {" + FINETUNE + "}}\n",
    "unknown evaluation without a near one": HEAD + TRAIN + "evaluations: {zzz: {}}\n",
    "evaluation is text": HEAD + TRAIN + "evaluations: {knn: yes}\n",
    "unknown field of an evaluation": HEAD + TRAIN + "evaluations: {knn: {kk: 3}}\n",
    "no epochs": HEAD + TRAIN + "evaluations: {finetune: {batch: 64, base_lr: 1e-3}}\n",
    "odd mixup": HEAD + TRAIN + "evaluations: {finetune: {epochs: 4, batch: 63, base_lr: 1e-3}}\n",
    "windows of a finetuning": HEAD + TRAIN + "evaluations: {finetune: {" + FINETUNE + ", windows: [4, 4]}}\n",
    "windows of a finetuning of pvt": HEAD.replace("swin", "pvt")
    + TRAIN
    + "evaluations: {finetune: {"
    + FINETUNE
    + ", windows: [4, 4]}}\n",
    "size of a finetuning": HEAD + TRAIN + "evaluations: {finetune: {" + FINETUNE + ", image_size: 20}}\n",
    "neighbours": HEAD + TRAIN + "evaluations: {knn: {k: 5000}}\n",
    "labels": HEAD + TRAIN + "evaluations: {finetune: {" + FINETUNE + ", subset: {labels_per_class: 900}}}\n",
    "features": HEAD + TRAIN + "evaluations: {knn: {features: pixel}}\n",
    "batch norm of one": HEAD + TRAIN + "evaluations: {linear: {standardise: batch_norm, batch: 1}}\n",
    "given twice": HEAD + TRAIN + "seed: 1\nseed: 2\n",
    "seed": HEAD + TRAIN + "seed: -1\n",
    "no such base": "base: digits_nanno\n",
    "base is its own": "base: file.yaml\n",
    "no such weights": "method: {name: imported, path: nowhere.safetensors}\nencoder: swin_nano\nimage_size: 32\nevaluations: {knn: {}}\n",
    "no path of weights": "method: imported\nencoder: swin_nano\nevaluations: {knn: {}}\n",
    "two mistakes": HEAD + "pretrain: {epochs: 3, batch: none, base_lr: 1e-3}\nevaluations: {knn: {k: 0}}\n",
}
"""Run as `mixmae run file.yaml`."""

ONE = "base: digits_nano\nsweeps: [{name: all, product: {seed: [0]}}]\n"
GRIDS = {
    "no sweeps": "base: digits_nano\n",
    "an empty sweep": "base: digits_nano\nsweeps: [{name: all, product: {seed: []}}]\n",
    "two sweeps of one name": "base: digits_nano\nsweeps: [{name: all}, {name: all}]\n",
    "leads into nothing": "base: digits_nano\nsweeps: [{name: all, product: {pretrian.epochs: [1]}}]\n",
    "leads into nothing in an evaluation": "base: digits_nano\nsweeps: [{name: all, product: {evaluations.fintune.epochs: [1]}}]\n",
    "unknown field in a sweep": "base: digits_nano\nsweeps: [{name: all, product: {pretrain.epoch: [1]}}]\n",
    "swept twice": "base: digits_nano\nsweeps: [{name: all, product: {seed: [1]}, zip: {seed: [2]}}]\n",
    "lengths": "base: digits_nano\nsweeps: [{name: all, zip: {seed: [1, 2], pretrain.epochs: [4]}}]\n",
    "excludes nothing": "base: digits_nano\nsweeps: [{name: all, product: {seed: [1]}, exclude: [{seed: 3}]}]\n",
    "excludes all": "base: digits_nano\nsweeps: [{name: all, product: {seed: [1]}, exclude: [{seed: 1}]}]\n",
    "scale": ONE + "scales: {desktop: {seeds: [1]}}\n",
    "table of no sweep": ONE + "tables: [{name: a, sweeps: [al]}]\n",
    "two tables of one name": ONE + "tables: [{name: a}, {name: a}]\n",
    "name of a table": ONE + "tables: [{name: ../a}]\n",
    "stage of a table": ONE + "tables: [{name: a, stages: [finetuning]}]\n",
    "kind of a plot": ONE + "plots: [{name: a, kind: curves}]\n",
    "smoothing": ONE + "plots: [{name: a, kind: loss, smoothing: 1}]\n",
    "unknown field of a plot": ONE + "plots: [{name: a, xs: ratio}]\n",
    "forest without reference": ONE + "plots: [{name: a, kind: forest}]\n",
    "forest of an unknown reference": ONE + "plots: [{name: a, kind: forest, reference: {method: mae}}]\n",
    "expected of no run": ONE + "expected: [{where: {method: mae}, top1: 80}]\n",
    "expected too much": ONE + "expected: [{where: {method: mixmae}, top1: 180}]\n",
    "expected of an unknown publication": ONE
    + "expected: [{where: {method: mixmae}, top1: 80, published: {method: A, encoder: B, pretrain_epochs: '1', resolution: 3}}]\n",
    "slots": ONE + "resources: {slots: 0}\n",
    "tracker": ONE + "resources: {track: [wand]}\n",
    "executor": ONE + "resources: {executor: cloud}\n",
}
"""Planned as `mixmae grid plan file.yaml`."""

SLURMS = {
    "no time": "{}",
    "time": "{time: 4h}",
    "time is no time": "{time: soon}",
    "memory": "{time: 60, memory: 10}",
    "site": "{time: 60, site: nowhere}",
    "directive of a field": "{time: 60, directives: {partition: gpu}}",
    "directive of ours": "{time: 60, directives: {hold: true}}",
    "warning": "{time: 2}",
    "tasks": "{time: 60, gpus_per_node: 2, tasks_per_node: 1}",
    "pack": "{time: 60, pack: 2, nodes: 2}",
    "processes": "{time: 60, tasks_per_node: 2}",
    "retry": "{time: 60, retries: {preempted: sometimes}}",
    "unknown retry": "{time: 60, retries: {time_out: never}}",
    "stage of an override": "{time: 60, overrides: [{stage: tune, set: {time: 5}}]}",
}
"""Planned as `mixmae grid plan file.yaml --executor slurm`."""


def one_grid(slurm: str) -> str:
    """A grid of one experiment that asks for this of a cluster."""
    return f"{ONE}resources:\n  executor: slurm\n  slurm: {slurm}\n"
