"""Small sets in the formats of torchvision's, with as many images of each class as one asks for."""

import dataclasses
import gzip
import hashlib
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as sets
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import inaturalist

from mixmae.data.torchvision_sets.sets import SETS

Made = dict[str, tuple[np.ndarray, list[int]]]
"""By split, pixels of (N, H, W) or (N, H, W, 3) and labels, as they were written."""


def pixels(seed: int, count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels_of(seed: int, classes: int, each: int) -> list[int]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), each)).tolist()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_idx(path: Path, values: np.ndarray) -> None:
    """The format of MNIST: two zero bytes, that of the type, the number of dimensions, and their sizes."""
    head = bytes([0, 0, 8, values.ndim]) + np.asarray(values.shape, ">i4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def write_mnist(folder: Path, made: Made, name: str = "FashionMNIST") -> None:
    for split, prefix in (("train", "train"), ("val", "t10k")):
        images, labels = made[split]
        write_idx(folder / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / name / "raw" / f"{prefix}-labels-idx1-ubyte", np.asarray(labels))


def random_set(classes: int, each: tuple[int, int], *shape: int) -> Made:
    labels = {"train": labels_of(0, classes, each[0]), "val": labels_of(1, classes, each[1])}
    return {split: (pixels(len(split), len(of), *shape), of) for split, of in labels.items()}


def fashion(folder: Path, monkeypatch) -> Made:
    made = random_set(10, (3, 2), 28, 28)
    write_mnist(folder, made)
    return made


def digits(folder: Path, monkeypatch) -> Made:
    made = random_set(10, (3, 2), 28, 28)
    write_mnist(folder, made, "MNIST")
    return made


def _pickled(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def _cifar(folder: Path, monkeypatch, found, of_labels: str, made: Made) -> Made:
    place = folder / found.base_folder
    batches = [(name, "train", start) for start, (name, _) in enumerate(found.train_list)]
    for name, split, start in [*batches, (found.test_list[0][0], "val", 0)]:
        images, labels = made[split]
        step = len(found.train_list) if split == "train" else 1
        size = -(-len(labels) // step)
        rows = slice(start * size, (start + 1) * size)
        flat = images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        _pickled(place / name, {"data": flat, of_labels: labels[rows]})
    names = [f"class {number}" for number in range(max(made["train"][1]) + 1)]
    _pickled(place / found.meta["filename"], {found.meta["key"]: names})
    for kept in ("train_list", "test_list"):
        monkeypatch.setattr(found, kept, [[name, md5(place / name)] for name, _ in getattr(found, kept)])
    monkeypatch.setattr(found, "meta", {**found.meta, "md5": md5(place / found.meta["filename"])})
    return made


def cifar10(folder: Path, monkeypatch) -> Made:
    return _cifar(folder, monkeypatch, sets.CIFAR10, "labels", random_set(10, (3, 2), 32, 32, 3))


def cifar100(folder: Path, monkeypatch) -> Made:
    return _cifar(folder, monkeypatch, sets.CIFAR100, "fine_labels", random_set(100, (2, 1), 32, 32, 3))


def stl10(folder: Path, monkeypatch) -> Made:
    made = random_set(10, (2, 1), 96, 96, 3)
    place = folder / "stl10_binary"
    place.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("val", "test")):
        images, labels = made[split]
        (place / f"{prefix}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (place / f"{prefix}_y.bin").write_bytes(bytes(label + 1 for label in labels))
    (place / "unlabeled_X.bin").write_bytes(b"")
    (place / "class_names.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    for kept in ("train_list", "test_list"):
        monkeypatch.setattr(sets.STL10, kept, [[name, md5(place / name)] for name, _ in getattr(sets.STL10, kept)])
    return made


def svhn(folder: Path, monkeypatch) -> Made:
    made = random_set(10, (2, 1), 32, 32, 3)
    folder.mkdir(parents=True, exist_ok=True)
    known = dict(sets.SVHN.split_list)
    for split, of in (("train", "train"), ("val", "test")):
        images, labels = made[split]
        path = folder / f"{of}_32x32.mat"
        as_published = np.asarray([[label or 10] for label in labels], np.uint8)
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": as_published})
        known[of] = [known[of][0], path.name, md5(path)]
    monkeypatch.setattr(sets.SVHN, "split_list", known)
    return made


def _image(path: Path, image: np.ndarray) -> np.ndarray:
    """Writes a JPEG and returns its pixels as they are read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return np.asarray(Image.open(path).convert("RGB"))


def flowers(folder: Path, monkeypatch) -> Made:
    """Train images first, which are those of torchvision's train and then those of its val."""
    place = folder / "flowers-102"
    labels = {"trnid": labels_of(0, 102, 1), "valid": labels_of(1, 102, 1), "tstid": labels_of(2, 102, 1)}
    flat = [label for of in labels.values() for label in of]
    ids = {name: 1 + np.arange(102) + 102 * number for number, name in enumerate(labels)}
    drawn = pixels(0, len(flat), 9, 12, 3)
    images = np.stack([_image(place / "jpg" / f"image_{1 + at:05d}.jpg", image) for at, image in enumerate(drawn)])
    savemat(place / "setid.mat", ids)
    savemat(place / "imagelabels.mat", {"labels": np.asarray(flat) + 1})
    known = {
        what: (name, md5(place / name) if (place / name).exists() else old)
        for what, (name, old) in sets.Flowers102._file_dict.items()
    }
    monkeypatch.setattr(sets.Flowers102, "_file_dict", known)
    return {"train": (images[:204], flat[:204]), "val": (images[204:], flat[204:])}


def food(folder: Path, monkeypatch) -> Made:
    """Its lists name classes in another order than that of the labels."""
    made, names = {}, ["waffles", "apple_pie", "tacos"]
    for split, of, each in (("train", "train", 3), ("val", "test", 1)):
        listed = {name: [f"{name}/{of}{number}" for number in range(each)] for name in names}
        drawn = iter(pixels(each, each * len(names), 9, 12, 3))
        files = [file for of_class in listed.values() for file in of_class]
        images = [_image(folder / "food-101/images" / f"{file}.jpg", next(drawn)) for file in files]
        (folder / "food-101/meta").mkdir(exist_ok=True)
        (folder / "food-101/meta" / f"{of}.json").write_text(json.dumps(listed))
        made[split] = np.stack(images), [sorted(names).index(file.split("/")[0]) for file in files]
    return made


def places(folder: Path, monkeypatch) -> Made:
    """Its classes are numbered in another order than that of their names."""
    names = {"/z/zoo": 0, "/a/abbey": 1}
    made, known = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "categories_places365.txt").write_text("".join(f"{name} {label}\n" for name, label in names.items()))
    for split, of, below, each in (
        ("train", "train-standard", "data_256_standard", 3),
        ("val", "val", "val_256", 2),
    ):
        listed = [(f"{name}/{number}.jpg", label) for number in range(each) for name, label in names.items()]
        drawn = pixels(each, len(listed), 9, 12, 3)
        images = [_image(folder / below / name[1:], image) for (name, _), image in zip(listed, drawn, strict=True)]
        file = folder / sets.Places365._FILE_LIST_META[of][0]
        file.write_text("".join(f"{name} {label}\n" for name, label in listed))
        known[of] = (file.name, md5(file))
        made[split] = np.stack(images), [label for _, label in listed]
    categories = ("categories_places365.txt", md5(folder / "categories_places365.txt"))
    monkeypatch.setattr(sets.Places365, "_CATEGORIES_META", categories)
    monkeypatch.setattr(sets.Places365, "_FILE_LIST_META", {**sets.Places365._FILE_LIST_META, **known})
    return made


def naturalist(folder: Path, monkeypatch) -> Made:
    made = {}
    for split, version, each in (("train", "2021_train", 3), ("val", "2021_valid", 1)):
        places = [folder / version / f"{number:05d}_a_b_c_d_e_f_g{number}" for number in range(3)]
        files = [place / f"{number}.jpg" for place in places for number in range(each)]
        drawn = pixels(each, len(files), 9, 12, 3)
        # Written backwards, as file systems list files in an order of their own.
        images = [_image(file, image) for file, image in reversed(list(zip(files, drawn, strict=True)))][::-1]
        made[split] = np.stack(images), [places.index(file.parent) for file in files]
    return made


MADE: dict[str, Callable[..., Made]] = {
    "CIFAR10": cifar10,
    "CIFAR100": cifar100,
    "FashionMNIST": fashion,
    "Flowers102": flowers,
    "Food101": food,
    "INaturalist": naturalist,
    "MNIST": digits,
    "Places365": places,
    "STL10": stl10,
    "SVHN": svhn,
}
"""What writes each set below a folder, and tells torchvision the md5 of what it has written."""


def pack(dataset: str, laid: Path, to: Path, monkeypatch) -> None:
    """Packs a set as its authors do, into the folder `to`, and tells torchvision the md5 and this program the sizes of
    it. `laid`: where one of `MADE` has written it."""
    to.mkdir(parents=True)
    match dataset:
        case "CIFAR10" | "CIFAR100" | "STL10":
            found = getattr(sets, dataset)
            monkeypatch.setattr(found, "tgz_md5", _tar(to / found.filename, laid, found.base_folder))
        case "MNIST":
            resources = [(name, _gz(laid / dataset / "raw" / name[:-3], to / name)) for name, _ in sets.MNIST.resources]
            monkeypatch.setattr(sets.MNIST, "resources", resources)
        case "SVHN":
            for name in ("train_32x32.mat", "test_32x32.mat"):
                (laid / name).rename(to / name)
        case "Flowers102":
            known = dict(sets.Flowers102._file_dict)
            archive = known["image"][0]
            known["image"] = archive, _tar(to / archive, laid / "flowers-102", "jpg")
            for name in ("setid.mat", "imagelabels.mat"):
                (laid / "flowers-102" / name).rename(to / name)
            monkeypatch.setattr(sets.Flowers102, "_file_dict", known)
        case "Food101":
            monkeypatch.setattr(sets.Food101, "_MD5", _tar(to / "food-101.tar.gz", laid, "food-101"))
        case "Places365":
            lists = [path.name for path in laid.glob("*.txt")]
            meta = sets.Places365._DEVKIT_META["standard"][0]
            monkeypatch.setattr(sets.Places365, "_DEVKIT_META", {"standard": (meta, _tar(to / meta, laid, *lists))})
            (laid / "data_256_standard").rename(laid / "data_256")  # as it is in the archive
            images = dict(sets.Places365._IMAGES_META)
            for split, folder in (("train-standard", "data_256"), ("val", "val_256")):
                name = images[split, True][0]
                images[split, True] = name, _tar(to / name, laid, folder)
            monkeypatch.setattr(sets.Places365, "_IMAGES_META", images)
        case "INaturalist":
            known = dict(inaturalist.DATASET_MD5)
            for version, folder in (("2021_train", "train"), ("2021_valid", "val")):
                (laid / version).rename(laid / folder)  # as it is in the archive
                known[version] = _tar(to / f"{folder}.tar.gz", laid, folder)
            monkeypatch.setattr(inaturalist, "DATASET_MD5", known)


def of_size(dataset: str, made: Made, monkeypatch) -> None:
    """Has this program know the set as one of the size that was made."""
    images = len(made["train"][1]), len(made["val"][1])
    monkeypatch.setitem(SETS, dataset, dataclasses.replace(SETS[dataset], images=images))


def _tar(path: Path, folder: Path, *names: str) -> str:
    with tarfile.open(path, "w:gz" if path.name.endswith(("gz", "tgz")) else "w") as archive:
        for name in names:
            archive.add(folder / name, name)
    return md5(path)


def _gz(path: Path, to: Path) -> str:
    to.write_bytes(gzip.compress(path.read_bytes()))
    return md5(to)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Of Debian's package dataset-fashion-mnist."""


def needs_debian() -> None:
    """Skips a test where the package is not installed; fails it where MIXMAE_NEED_FASHION_MNIST=1."""
    if not DEBIAN.is_dir():
        what = f"no {DEBIAN}; apt-get install dataset-fashion-mnist"
        if os.environ.get("MIXMAE_NEED_FASHION_MNIST") == "1":
            pytest.fail(f"MIXMAE_NEED_FASHION_MNIST=1 forbids skipping: {what}")
        pytest.skip(what)
