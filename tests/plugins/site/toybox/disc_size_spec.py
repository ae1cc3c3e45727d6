"""How well sizes, which are classes in order, are read from an encoder's features (no torch)."""

from mixmae.experiment.metric import Metric
from mixmae.experiment.stages import StageSpec
from mixmae.fields.model import Fraction, Model, NotNegative, Positive


class DiscSizeRecipe(Model):
    """A linear regression of the class number on frozen features, by gradient descent."""

    epochs: Positive = 5
    lr: NotNegative = 0.01
    eval_crop: Fraction = 1.0


class DiscSize(StageSpec):
    name, label = "disc_size", "size of discs"
    recipe = DiscSizeRecipe
    run = "toybox.disc_size:run"
    metrics = (
        Metric("error", "mean absolute error", "error", "sizes", ".3f", higher_is_better=False),
        Metric("rms", "root mean square error", "RMS error", "sizes", ".3f", higher_is_better=False),
        Metric("within_one", "within one size", "within one", "%", ".1f"),
    )


SPEC = DiscSize()
