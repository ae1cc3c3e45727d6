"""Stage job: fine-tuning a pretrained encoder, or training it from scratch where there is no pretraining."""

from typing import Any

from mixmae.data.batches import Samples, open_split, subset_of
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.finetune.loop import classify
from mixmae.evaluations.finetune.transform import finetuning_transform
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.jobs import EvaluationJob
from mixmae.methods.classifier import Classifier
from mixmae.methods.perturbation import perturb
from mixmae.training.session import Outcome, Session


def run(session: Session, job: EvaluationJob) -> Outcome:
    """Figures: top1, top5 (percent), loss, epochs, of val after the last epoch. Leaves the classifier's weights in the
    run folder. Raises Stopped."""
    recipe: Any = job.recipe
    train, val = open_split(job.data, "train"), open_split(job.data, job.scored_split)
    indices = subset_of(job.data, train, recipe.subset, job.seed)
    encoder = encoder_of(job, session.run, recipe.drop_path, recipe.table_resize)
    model = Classifier(encoder, len(train.classes), recipe.head_init_std)
    perturb(model.head, job.perturb)
    figures = classify(
        session,
        job,
        model,
        Samples(train, finetuning_transform(recipe, job.image_size), job.seed, indices),
        indices,
        Samples(val, evaluation_transform(job.image_size, recipe.eval_crop), job.seed),
    )
    return Outcome(figures)
