"""Stage job: fine-tuning a pretrained encoder, or training it from scratch where there is no pretraining."""

from mixmae.data.batches import Samples, open_split
from mixmae.data.subset import subset
from mixmae.data.transforms import evaluation_transform, finetuning_transform
from mixmae.evaluations.finetune.loop import classify
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.jobs import FinetuneJob
from mixmae.names import METHODS, resolve
from mixmae.training.session import Session


def run(session: Session, job: FinetuneJob) -> dict:
    """Returns {"top1", "top5" (percent), "loss", "epochs"} of val after the last epoch; leaves the classifier's
    weights in the run folder. Raises Stopped."""
    recipe = job.recipe
    train, val = open_split(job.data, "train"), open_split(job.data, "val")
    indices = subset(train.labels, recipe.subset, job.seed)
    encoder = encoder_of(job, session.run, recipe.drop_path)
    model = resolve(METHODS["supervised"])(encoder, classes=len(train.classes), head_init_std=recipe.head_init_std)
    return classify(
        session,
        job,
        model,
        Samples(train, finetuning_transform(recipe, job.image_size), job.seed, indices),
        indices,
        Samples(val, evaluation_transform(job.image_size, recipe.eval_crop), job.seed),
    )
