"""Fetching a set: made of its authors' files, checked, and there whole or not at all."""

import dataclasses
import fcntl
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import typer

from mixmae.data.batches import open_split
from mixmae.data.commands import data_check
from mixmae.data.torchvision_sets.fetch import CONTENTS, fetch
from mixmae.data.torchvision_sets.sets import SETS, missing
from mixmae.data.torchvision_sets.spec import TorchvisionConfig
from support.torchvision_sets import DEBIAN, MADE, fashion, needs_debian, of_size, pack


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever asks for a host's address is told that there is none."""

    def refused(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refused)


def quietly(dataset, folder, originals=None) -> list[str]:
    said: list[str] = []
    fetch(dataset, folder, originals, said.append)
    return said


def packed(dataset, tmp_path, monkeypatch):
    """The folder with the authors' files of a made set, and what is in it."""
    made = MADE[dataset](tmp_path / "laid", monkeypatch)
    of_size(dataset, made, monkeypatch)
    pack(dataset, tmp_path / "laid", tmp_path / "originals", monkeypatch)
    return tmp_path / "originals", made


@pytest.mark.parametrize("dataset", sorted(set(SETS) - {"FashionMNIST"}))
def test_every_set_is_made_of_its_authors_files(tmp_path, monkeypatch, dataset):
    originals, made = packed(dataset, tmp_path, monkeypatch)
    kept = sorted(path.name for path in originals.iterdir())
    said = quietly(dataset, tmp_path / "sets", originals)
    assert sorted(line for line in said if line.startswith("taking")) == [f"taking {name}" for name in kept]
    assert sorted(path.name for path in originals.iterdir()) == kept, "what was given stays"
    data = TorchvisionConfig(dataset=dataset, path=str(tmp_path / "sets"))
    for split, (images, labels) in made.items():
        opened = open_split(data, split)
        assert opened.labels == labels
        wanted = images[-1] if images.ndim == 4 else np.repeat(images[-1][..., None], 3, -1)
        np.testing.assert_array_equal(np.asarray(opened.image(len(labels) - 1)), wanted)
    left = [path for path in (tmp_path / "sets").rglob("*") if path.name.startswith(".") or path.is_symlink()]
    assert not left and not [path for path in (tmp_path / "sets").rglob("*") if path.suffix in (".gz", ".tgz", ".tar")]
    assert quietly(dataset, tmp_path / "sets") == [f"{dataset} is there already: {tmp_path / 'sets'}"]


def test_debians_files_are_taken_packed_or_not(tmp_path):
    needs_debian()
    said = quietly("FashionMNIST", tmp_path / "a", DEBIAN)
    assert said[-2:] == [
        f"FashionMNIST is in {tmp_path / 'a'}: 60,000 images for train and 10,000 images for val, 10 classes",
        f"data: {{name: torchvision, dataset: FashionMNIST, path: {tmp_path / 'a'}}}",
    ]
    quietly("FashionMNIST", tmp_path / "b", tmp_path / "a/FashionMNIST/raw")
    for path in SETS["FashionMNIST"].needs:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert sorted(CONTENTS) == sorted(SETS["FashionMNIST"].needs)


def test_debians_files_may_not_lack_where_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("support.torchvision_sets.DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("MIXMAE_NEED_FASHION_MNIST", "1")
    with pytest.raises(pytest.fail.Exception, match="forbids skipping: no .*; apt-get install dataset-fashion-mnist"):
        needs_debian()
    monkeypatch.delenv("MIXMAE_NEED_FASHION_MNIST")
    with pytest.raises(pytest.skip.Exception, match="apt-get install dataset-fashion-mnist"):
        needs_debian()


def test_other_files_than_the_authors_are_refused(tmp_path, monkeypatch):
    originals, _ = packed("CIFAR10", tmp_path, monkeypatch)
    with (originals / "cifar-10-python.tar.gz").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"originals/cifar-10-python\.tar\.gz: its md5 is \w{32}, that of the authors"):
        quietly("CIFAR10", tmp_path / "sets", originals)
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[:-1], "holds 10,007 bytes, the authors' 10,008; get it again"),
        (lambda data: data[:-1] + b"\x07", "the sha256 of what it holds is .*; get it again"),
    ],
)
def test_files_of_another_content_are_refused(tmp_path, change, what):
    needs_debian()
    (tmp_path / "given").mkdir()
    for path in DEBIAN.iterdir():
        (tmp_path / "given" / path.name).symlink_to(path)
    labels = tmp_path / "given/t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(labels.read_bytes())
    labels.unlink()
    labels.write_bytes(gzip.compress(change(content)))
    with pytest.raises(ValueError, match=f"t10k-labels-idx1-ubyte.gz: {what}"):
        quietly("FashionMNIST", tmp_path / "sets", tmp_path / "given")
    assert not (tmp_path / "sets").exists()


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:-9])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: cannot be unzipped .*; get it again"):
        quietly("FashionMNIST", tmp_path / "sets", tmp_path / "given")


def test_fewer_images_than_there_are_is_refused(tmp_path, monkeypatch):
    originals, _ = packed("STL10", tmp_path, monkeypatch)
    monkeypatch.setitem(SETS, "STL10", dataclasses.replace(SETS["STL10"], images=(20, 8_000)))
    with pytest.raises(ValueError, match="STL10 has 20 of 20 images for train, 10 of 8,000 images for val; remove it"):
        quietly("STL10", tmp_path / "sets", originals)
    assert not (tmp_path / "sets").exists()


def test_a_set_that_is_there_is_checked(tmp_path, monkeypatch):
    fashion(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"FashionMNIST/raw/train-images-idx3-ubyte: holds 23,536 bytes, the authors'"):
        quietly("FashionMNIST", tmp_path)
    originals, _ = packed("STL10", tmp_path / "other", monkeypatch)
    quietly("STL10", tmp_path, originals)
    monkeypatch.setitem(SETS, "STL10", dataclasses.replace(SETS["STL10"], images=(5_000, 8_000)))
    with pytest.raises(ValueError, match="STL10 has 20 of 5,000 images for train, 10 of 8,000 images for val; remove"):
        quietly("STL10", tmp_path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/food-101\.tar\.gz: no such file; --from takes"):
        quietly("Food101", tmp_path / "sets", tmp_path)


def test_without_a_network_the_files_and_the_command_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"MNIST cannot be downloaded .*Name or service not known") as refused:
        quietly("MNIST", tmp_path / "sets")
    said = str(refused.value)
    assert f"mixmae data fetch MNIST {tmp_path / 'sets'} --from FOLDER, where FOLDER holds train-images-idx3" in said
    assert "\n" not in said and not (tmp_path / "sets").exists()


def test_what_cannot_be_is_refused(tmp_path, monkeypatch, called):
    for name in ("FashionMINST", "fashion_mnist", "fashionmnist"):
        _, said = called("data", "fetch", name, "sets", folder=tmp_path, check=2)
        assert said == f"DATASET: no set '{name}'; did you mean FashionMNIST?\n" and not list(tmp_path.iterdir())
    fashion(tmp_path, monkeypatch)
    (tmp_path / SETS["FashionMNIST"].needs[0]).unlink()
    with pytest.raises(ValueError, match=r"FashionMNIST: in the way, of a set that is not whole; remove it"):
        quietly("FashionMNIST", tmp_path, DEBIAN)
    (tmp_path / "FashionMNIST/processed").mkdir()
    with pytest.raises(ValueError, match=r"FashionMNIST/processed: of an older torchvision; remove it"):
        quietly("FashionMNIST", tmp_path, DEBIAN)


def test_a_set_of_which_a_part_has_come_does_not_count(tmp_path, monkeypatch):
    """Killed between the two files of SVHN, which appear one after the other."""
    originals, _ = packed("SVHN", tmp_path, monkeypatch)
    (tmp_path / "sets").mkdir()
    (originals / "train_32x32.mat").rename(tmp_path / "sets/train_32x32.mat")
    assert missing("SVHN", tmp_path / "sets") == ["test_32x32.mat"]
    with pytest.raises(ValueError, match=r"sets/train_32x32\.mat: in the way, of a set that is not whole; remove it"):
        quietly("SVHN", tmp_path / "sets", originals)


def test_only_one_process_fetches_a_set(tmp_path):
    apart = tmp_path / ".fetching-MNIST"
    apart.mkdir()
    handle = os.open(apart, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(FileExistsError, match="another process is fetching MNIST to there; wait for it"):
        quietly("MNIST", tmp_path)
    assert apart.is_dir(), "it is the other one's"
    os.close(handle)


@pytest.mark.parametrize("there", [".", "data", "data/sets"])
def test_a_failed_fetch_leaves_no_folder_that_it_has_made(tmp_path, there):
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError):
        quietly("STL10", tmp_path / "data/sets/here", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_check_of_a_fetched_folder_names_its_sets(tmp_path, monkeypatch, capsys):
    def checked(*options: str) -> int:
        with pytest.raises(typer.Exit) as left:
            data_check(tmp_path, *options)
        return left.value.exit_code

    of_size("SVHN", MADE["SVHN"](tmp_path, monkeypatch), monkeypatch)
    of_size("MNIST", MADE["MNIST"](tmp_path, monkeypatch), monkeypatch)
    assert checked() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"MNIST is in {tmp_path}: 30 images for train and 20 images for val, 10 classes"
    assert said[1::2] == [
        f"data: {{name: torchvision, dataset: {name}, path: {tmp_path}}}" for name in ("MNIST", "SVHN")
    ]
    assert checked(True) == 0
    assert json.loads(capsys.readouterr().out)["sets"] == ["MNIST", "SVHN"]
    (tmp_path / "MNIST/processed").mkdir()
    assert checked() == 1
    assert "problem: " in (said := capsys.readouterr().out) and "MNIST/processed: of an older torchvision" in said


@pytest.mark.slow
def test_a_fetch_that_is_killed_leaves_nothing_that_counts(tmp_path):
    needs_debian()
    code = "import sys, cli; sys.argv[0] = 'mixmae'; cli.main()"
    words = ["data", "fetch", "FashionMNIST", str(tmp_path), "--from", str(DEBIAN)]
    apart, moments = tmp_path / ".fetching-FashionMNIST", []
    for files in range(1, 5):  # killed while it writes the first, the second, …
        ended = subprocess.Popen([sys.executable, "-P", "-c", code, *words], stdout=subprocess.DEVNULL)
        while len(list(apart.glob("FashionMNIST/raw/*"))) < files and ended.poll() is None:
            time.sleep(0.002)
        ended.send_signal(signal.SIGKILL)
        moments.append(ended.wait())
        assert missing("FashionMNIST", tmp_path) == list(SETS["FashionMNIST"].needs)
    assert moments == [-signal.SIGKILL] * 4 and apart.is_dir()
    quietly("FashionMNIST", tmp_path, DEBIAN)
    assert [path.name for path in tmp_path.iterdir()] == ["FashionMNIST"]
