from matplotlib.figure import Figure

from mixmae.presentation.columns import shown
from results.rows.shown import shown_runs


def draw(frame, plot, declaration, title) -> Figure:
    selected = declaration.selected(plot.stages)
    figure = Figure(figsize=(3 * len(selected), 3), layout="constrained")
    for ax, of in zip(figure.subplots(1, len(selected), squeeze=False)[0], selected, strict=True):
        for run in shown_runs(frame, declaration, plot.sweeps, [of.name]):
            if run.done:
                ax.plot(shown("method", run.method), run.figures[of.metric.name], "o", color="black")
        ax.set(title=of.label, ylabel=of.metric.axis)
    figure.suptitle(title)
    return figure
