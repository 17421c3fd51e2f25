"""RunOptions: what changes only where and how fast a run runs, never its result (up to rounding); no recipe has such a knob."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import BadInput
from tutelage.training.null import refuse_null
from tutelage.training.tracking import tracker_names

DEFER = ("auto", "always", "never")

MOST_WORKERS = 1024
"""Processes; more would bring a machine down before they read anything."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how fast to run.

    Args:
        device: where to compute: auto takes an accelerator where there is one.
        precision: of the models' passes; losses and weights stay float32. fp16 takes one optimizer a stage.
        compile: compile the models with torch.compile; early stops are then off.
        defer_logits: make logits over a vocabulary some tokens at a time, within the loss, so that they never exist as a whole: always,
            never, or auto: from 16,384 tokens on, where the models and all terms of the loss allow it.
        micro_batch: largest number of samples in one pass; larger batches are accumulated. Null for no limit.
        workers: processes that read data ahead; 0 reads in the main process.
        checkpoint_every: updates between checkpoints.
        log_every: updates between lines in metrics.jsonl.
        share_every: updates between samples of each term's share of the gradient; 0 for never.
        track: trackers that get all numbers as well, by name: tensorboard, wandb, mlflow and whatever else Accelerate knows; several
            with commas between them. Those that write files write below RUN/trackers.
        quiet: print no progress.

    Raises:
        BadInput: a value outside its range, a tracker that is not known or not installed.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    defer_logits: Literal["auto", "always", "never"] = "auto"
    micro_batch: int | None = None
    workers: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    share_every: int = 200
    track: tuple[str, ...] | str = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        refuse_null(self)
        object.__setattr__(self, "track", tracker_names(self.track))
        for name, least in (("workers", 0), ("checkpoint_every", 1), ("log_every", 1), ("share_every", 0), ("micro_batch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"{name}={value}: expected at least {least}")
        if self.workers > MOST_WORKERS:
            raise BadInput(f"workers={self.workers}: expected at most {MOST_WORKERS}")
        for name, choices in (("device", ("auto", "cpu")), ("precision", ("fp32", "bf16", "fp16")), ("defer_logits", DEFER)):
            if getattr(self, name) not in choices:
                raise BadInput(f"{name}={getattr(self, name)!r}: expected one of {', '.join(choices)}")
