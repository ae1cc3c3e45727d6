import time

import torch
from torch import nn

from mixmae.data.draws import seed_everything
from mixmae.evaluations.features import extract, frozen
from mixmae.evaluations.start import central_crops, encoder_of
from mixmae.experiment.jobs import EvaluationJob
from mixmae.training.journal import Journal
from mixmae.training.session import Outcome, Session


def run(session: Session, job: EvaluationJob) -> Outcome:
    """Figures: error, rms (in sizes), within_one (percent), loss, epochs. Leaves predictions.csv."""
    train, val = central_crops(job)
    features = frozen(encoder_of(job, session.run, drop_path=0.0), session.device)
    seen, sizes = extract(session, features, train, list(range(len(train.split))))
    unseen, wanted = extract(session, features, val, list(range(len(val.split))))
    mean, spread = seen.mean(0), seen.std(0) + 1e-6
    seen, unseen = (seen - mean) / spread, (unseen - mean) / spread
    seed_everything(job.seed, "head")
    head, figures = nn.Linear(seen.shape[1], 1), {}
    optimizer = torch.optim.SGD(head.parameters(), job.recipe.lr)
    journal = Journal(session.run.path, session.processes.leads, session.trackers)
    journal.restore([])
    for epoch in range(1, job.recipe.epochs + 1):
        session.check_stop("reading sizes")
        began = time.monotonic()
        loss = (head(seen)[:, 0] - sizes).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 2 == 0 or epoch == job.recipe.epochs:
            figures = _figures(head(unseen)[:, 0].detach(), wanted)
        evaluated = figures if epoch % 2 == 0 or epoch == job.recipe.epochs else {}
        line = {"epoch": epoch, "step": epoch, "loss": loss.item(), **evaluated}
        journal.add(line, time.monotonic() - began, len(seen))
        session.report(epoch=epoch, epochs=job.recipe.epochs, loss=line["loss"], metric=figures.get(session.main))
    path = session.run.path / "predictions.csv"
    rows = zip(wanted.tolist(), head(unseen)[:, 0].tolist(), strict=True)
    path.write_text("size,predicted\n" + "".join(f"{size},{predicted:.4f}\n" for size, predicted in rows))
    return Outcome({**figures, "loss": line["loss"], "epochs": job.recipe.epochs}, (path,))


def _figures(predicted: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
    off = (predicted - wanted).abs()
    within = 100 * (off <= 1).float().mean().item()
    return {"error": off.mean().item(), "rms": off.square().mean().sqrt().item(), "within_one": within}
