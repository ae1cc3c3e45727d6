"""Figures that evaluations are judged by (no torch)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure of a result. name: its key there. label: as tables and plots show it. unit: such as "%", or "". format:
    as of `format`. higher_is_better: else an error or a loss."""

    name: str
    label: str
    unit: str = ""
    format: str = ".2f"
    higher_is_better: bool = True

    def text(self, value: float) -> str:
        return format(value, self.format)


TOP1 = Metric("top1", "top-1 accuracy", "%")
TOP5 = Metric("top5", "top-5 accuracy", "%")
LOSS = Metric("loss", "loss", format=".4g", higher_is_better=False)
