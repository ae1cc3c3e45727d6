"""What a training is told, whatever it trains (no torch)."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from mixmae.fields.identity import Neutral
from mixmae.fields.model import Betas, Model, NotNegative, Positive, Ratio, impossible


class Optimisation(Model):
    """AdamW with warm-up and decay a step; the absolute learning rate is base_lr * batch / base_batch."""

    epochs: Positive
    """Passes over the training images."""
    batch: Positive
    """Images an optimiser step, over all processes."""
    base_lr: Annotated[float, Field(gt=0)]
    """The learning rate at a batch of base_batch images."""
    base_batch: Positive = 256
    """The batch that base_lr is meant for."""
    min_lr: NotNegative = 0.0
    """Absolute, not scaled by the batch."""
    warmup_lr: NotNegative = 0.0
    """The learning rate that warm-up starts from, absolute."""
    warmup_epochs: NotNegative = 0.0
    """Epochs over which the learning rate grows linearly."""
    warmup_steps: Annotated[Positive | None, Neutral(None)] = None
    """Optimiser steps of warm-up, in place of warmup_epochs; fewer than the run has."""
    schedule: Literal["cosine", "multistep"] = "cosine"
    """How the learning rate falls after warm-up, step by step."""
    decay_epochs: Annotated[tuple[StrictInt, ...], Field(strict=False)] = ()
    """multistep: the epochs after which the learning rate is multiplied by decay_rate."""
    decay_rate: Ratio = 0.1
    """multistep: what the learning rate is multiplied by."""
    betas: Betas = (0.9, 0.999)
    """AdamW's two decay rates."""
    weight_decay: NotNegative = 0.05
    """Not applied to biases, norms and what `no_decay` says."""
    no_decay: Annotated[tuple[str, ...] | None, Field(strict=False), Neutral(None)] = None
    """Patterns (fnmatch, on the model's parameter names) of parameters without weight decay besides biases and norms;
    default: what the model names, that is position embeddings, tokens and relative position tables."""
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of the gradient."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth at the last block; it grows linearly from zero."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs that have it, float32 elsewhere; float16 only on request: with a loss scale."""

    chunk: Annotated[Positive | None, Neutral(None)] = None
    """Consecutive images of a batch that go through the model at once; default: the batch."""

    @property
    def average_decay(self) -> float | None:
        """Of a moving average of the weights, a step; None: there is none."""
        return None

    @property
    def images_at_once(self) -> int:
        """Of a chunk."""
        return self.chunk or self.batch

    @property
    def chunks(self) -> int:
        """Of a batch."""
        return self.batch // self.images_at_once

    @property
    def lr(self) -> float:
        """The absolute learning rate."""
        return self.base_lr * self.batch / self.base_batch

    @model_validator(mode="after")
    def _warmup_ends_before_training_does(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            own = "1 epoch is" if self.epochs == 1 else f"{self.epochs} epochs are"
            what = f"{own} no more than the {self.warmup_epochs:g} of warmup_epochs"
            raise impossible(("epochs",), f"{what}; write more, or fewer there")
        if self.warmup_steps is not None and self.warmup_epochs:
            what = f"{self.warmup_epochs:g} warmup_epochs are given too; write warmup_epochs: 0 or leave these out"
            raise impossible(("warmup_steps",), what)
        if (self.schedule == "multistep") != bool(self.decay_epochs):
            raise impossible(
                ("decay_epochs",), "goes with schedule: multistep, and only with it; write both or neither"
            )
        return self

    @model_validator(mode="after")
    def _chunks_fill_the_batch(self) -> Self:
        if self.chunk and self.batch % self.chunk:
            raise impossible(("chunk",), f"does not divide the batch of {self.batch}; write a divisor of {self.batch}")
        return self
