"""Images in the ImageNet layout: PATH/train/CLASS/… and PATH/val/CLASS/… (no torch)."""

from PIL import Image

from mixmae.data.image_folder.index import index
from mixmae.data.image_folder.spec import ImageFolderConfig, data_root
from mixmae.data.reading import read_rgb


class ImageFolder:
    """One split, "train" or "val". Classes are the folders' names, sorted; images are read as RGB when asked for.

    Raises FileNotFoundError or ValueError, naming the place, where the tree is not the ImageNet layout.
    """

    def __init__(self, config: ImageFolderConfig, split: str):
        walked = index(data_root(config))
        self.classes = walked.classes
        self.labels = walked.labels(split)
        self.bad_files = config.bad_files
        self._folder = data_root(config) / split
        self._names = walked.paths(split)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Reads image `index` as RGB, upright. Raises Unreadable."""
        return read_rgb(self._folder / self._names[index])

    def name(self, index: int) -> str:
        return self._names[index]
