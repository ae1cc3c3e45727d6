"""Stage job: masked image modelling on the train split."""

from mixmae.data.batches import Samples, open_split
from mixmae.data.subset import subset
from mixmae.data.transforms import pretraining_transform
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.jobs import PretrainJob
from mixmae.methods.building import build_method
from mixmae.training.pretrain.loop import pretrain
from mixmae.training.session import Session


def run(session: Session, job: PretrainJob) -> dict:
    """Returns {"loss", "epochs", "steps", "images"}; leaves the method's weights in the run folder. Raises Stopped."""
    split = open_split(job.data, "train")
    indices = subset(split.labels, job.recipe.subset, job.seed)
    samples = Samples(split, pretraining_transform(job.recipe, job.image_size), job.seed, indices)
    method = build_method(job.method, encoder_of(job, session.run, job.recipe.drop_path))
    return pretrain(session, job, method, samples, indices)
