"""Stage job: masked image modelling on the train split."""

from typing import Any

from mixmae.data.batches import Samples, open_split, subset_of
from mixmae.data.draws import seed_everything
from mixmae.encoders.building import build_encoder
from mixmae.experiment.jobs import PretrainJob
from mixmae.methods.building import build_method
from mixmae.methods.perturbation import perturb
from mixmae.training.pretrain.loop import pretrain
from mixmae.training.pretrain.transform import pretraining_transform
from mixmae.training.session import Outcome, Session


def run(session: Session, job: PretrainJob) -> Outcome:
    """Figures: loss, epochs, steps, images. Leaves the method's weights in the run folder. Raises Stopped."""
    assert job.encoder is not None
    recipe: Any = job.recipe
    split = open_split(job.data, "train")
    indices = subset_of(job.data, split, recipe.subset, job.seed)
    samples = Samples(split, pretraining_transform(recipe, job.image_size), job.seed, indices)
    seed_everything(job.seed, "init")
    method = build_method(job.method, build_encoder(job.encoder, job.image_size, recipe.drop_path))
    perturb(method, job.perturb)
    return Outcome(pretrain(session, job, method, samples, indices))
