"""Images in the ImageNet layout: PATH/train/CLASS/… and PATH/val/CLASS/… (no torch)."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mixmae.data.paths import expanded
from mixmae.data.sources import SPLITS, DataModel, DataNotHere, DataSpec
from mixmae.fields.identity import Recorded


class ImageFolderConfig(DataModel):
    """The ImageNet layout: PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg."""

    name: Literal["image_folder"] = "image_folder"
    path: Annotated[str, Recorded]
    """Path of the folder; environment variables are expanded."""
    bad_files: Annotated[int, Field(ge=0), Recorded] = 0
    """How many unreadable images a split may hold before its runs fail. What a run computes that gets by does not
    depend on this."""


def data_root(config: ImageFolderConfig) -> Path:
    return Path(config.path).expanduser()


class ImageFolderSpec(DataSpec):
    name, label, order = "image_folder", "image folder", 4
    config = ImageFolderConfig
    source = "mixmae.data.image_folder.source:ImageFolder"
    may_be_elsewhere = True

    def placed(self, config: ImageFolderConfig) -> ImageFolderConfig:
        """Returns the config with its path expanded and made absolute."""
        path = expanded(config.path)
        for split in SPLITS:
            if not (path / split).is_dir():
                what = f"no folder {path / split}; write a path that holds train/CLASS/ and val/CLASS/ images"
                raise DataNotHere(("path",), what)
        return config.model_copy(update={"path": str(path)})

    def counts(self, config: ImageFolderConfig, split: str) -> tuple[int, ...]:
        return _counts(config, split)

    def fingerprint(self, config: ImageFolderConfig, root: Path) -> str:
        from mixmae.data.image_folder.fingerprint import fingerprint

        return fingerprint(config, root)

    def recall(self, config: ImageFolderConfig, root: Path) -> None:
        from mixmae.data.image_folder.fingerprint import recall

        recall(config, root)

    def title(self, config: ImageFolderConfig) -> str:
        return " ".join(Path(config.path).name.split()) or self.name

    @property
    def published_as(self) -> str:
        """ImageNet, which any folder of images is taken to hold where published numbers stand beside its results."""
        return "ImageNet-1K"

    def of_folder(self, path: Path) -> ImageFolderConfig:
        return ImageFolderConfig(path=str(path))


@lru_cache
def _counts(config: ImageFolderConfig, split: str) -> tuple[int, ...]:
    from mixmae.data.image_folder.index import index

    return tuple(len(files) for files in index(data_root(config)).files[split].values())


SPEC = ImageFolderSpec()
