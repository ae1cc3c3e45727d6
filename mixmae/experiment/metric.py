"""Figures that evaluations are judged by (no torch)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure of a result. name: its key there. label: what it is, and short: what it is on an axis. unit: such as
    "%", or "". format: as of `format`. higher_is_better: else an error or a loss."""

    name: str
    label: str
    short: str
    unit: str = ""
    format: str = ".2f"
    higher_is_better: bool = True

    @property
    def axis(self) -> str:
        return f"{self.short} ({self.unit})" if self.unit else self.short

    @property
    def difference_unit(self) -> str:
        """What differences are in: points, of shares in percent."""
        return "points" if self.unit == "%" else self.unit

    def text(self, value: float) -> str:
        return format(value, self.format)

    def better(self, value: float) -> float:
        """A number that is higher where the figure is better."""
        return value if self.higher_is_better else -value


TOP1 = Metric("top1", "top-1 accuracy", "top-1", "%")
TOP5 = Metric("top5", "top-5 accuracy", "top-5", "%")
LOSS = Metric("loss", "loss", "loss", format=".4g", higher_is_better=False)
