"""Run: the folder, the seed, the options and the accelerator of one plan being carried out; it also hears the wish to stop."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tutelage.errors import BadInput
from tutelage.signals import Batch, Model
from tutelage.teachers import Views
from tutelage.training.options import RunOptions
from tutelage.training.tracking import Track

if TYPE_CHECKING:
    from accelerate import Accelerator

Context = Callable[[], contextlib.AbstractContextManager[Any]]
Watch = Callable[[Model], Mapping[str, float]]


class Run:
    """Where a plan is carried out.

    Args:
        folder: where checkpoints, metrics and stage results go; None keeps nothing on disk.
        seed: of everything that is drawn.
        options: where and how fast.
        watch: measures a product after each epoch, or as often as its `Fit` says; "accuracy" or "perplexity" among its numbers; decides
            `keep="best"`.
        identity: what, besides the plan itself, a checkpoint must agree with (recipe, knobs, data).
        accelerator: an existing one; made from the options otherwise.
        track: takes each line of metrics.jsonl on its way to trackers; default: `train` starts those of the options for this run alone.
        views: augmented views of each sample that are studied in turn, and the seed of what is drawn for them; None means a new view each
            epoch, drawn from `seed`, or those that a teacher knows.
        limit: end each stage after so many updates, its schedules being those of its whole length; the beginning of a run, to look at.

    Raises:
        BadInput: an accelerator of another precision is already in use in this process, or trackers without a folder.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        seed: int = 0,
        options: RunOptions | None = None,
        watch: Watch | None = None,
        identity: Mapping[str, Any] | None = None,
        accelerator: Accelerator | None = None,
        track: Track | None = None,
        limit: int | None = None,
        views: Views | None = None,
    ) -> None:
        self.folder, self.seed, self.watch = folder, seed, watch
        self.options = options or RunOptions()
        self.identity = dict(identity or {})
        self.accelerator = accelerator or make_accelerator(self.options, folder)
        self.track = track
        self.limit, self.views = limit, views
        self.stop_signal: int | None = None
        mixed = self.accelerator.mixed_precision != "no"
        # around models and around terms; a context costs as much as a small layer, so it is only entered where it does something
        self.autocast: Context = self.accelerator.autocast if mixed else contextlib.nullcontext
        self.plain: Context = functools.partial(torch.autocast, self.device.type, enabled=False) if mixed else contextlib.nullcontext
        self._plain = self.accelerator.scaler is None and self.accelerator.distributed_type in ("NO", "MULTI_CPU", "MULTI_GPU")

    def backward(self, loss: torch.Tensor) -> None:
        """Run backward, scaled where the precision or the engine asks for it."""
        if self._plain:
            loss.backward()
        else:
            self.accelerator.backward(loss)

    def update(self, optimizer: Any) -> None:
        """Let a prepared optimizer step, and drop the gradients.

        In plain float32 or bf16 the wrapped optimizer is called itself: at each step the wrapper looks for packages that are not there,
        which costs a small model a third of its step.
        """
        stepping = optimizer.optimizer if self._plain else optimizer
        stepping.step()
        stepping.zero_grad(set_to_none=True)

    @property
    def device(self) -> torch.device:
        """Where the models compute."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """This process, counted from 0."""
        return self.accelerator.process_index

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    def place(self, batch: Batch) -> dict[str, Any]:
        """Move a batch's tensors to the device."""
        if self.device.type == "cpu":
            return dict(batch)
        return {k: v.to(self.device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over processes."""
        return values if self.ranks == 1 else self.accelerator.reduce(values, reduction="sum")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to save and stop; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def hear(number: int, _frame: Any) -> None:
            if self.stop_signal is not None:
                raise KeyboardInterrupt
            self.stop_signal = number

        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stopping(self, step: int) -> bool:
        """Whether to save and stop after this step; the same answer on every process, which ask each other every tenth step."""
        if self.ranks == 1:
            return self.stop_signal is not None
        if step % 10:
            return False
        asked = torch.tensor([self.stop_signal or 0], device=self.device)
        heard = int(self.accelerator.gather(asked).max())
        self.stop_signal = heard or None
        return heard > 0

    def release(self, trainees: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Let the accelerator forget what a stage gave it, so that a finished stage holds no memory."""
        for held, ours in ((self.accelerator._models, trainees), (self.accelerator._optimizers, optimizers)):
            held[:] = [each for each in held if not any(each is one for one in ours)]


def make_accelerator(options: RunOptions, folder: Path | None = None) -> Accelerator:
    """Make the accelerator that the options ask for.

    Args:
        options: device, precision and trackers.
        folder: the run's; trackers that write files write below it.

    Raises:
        BadInput: this process already has one of another precision, or trackers have no folder to write to.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # each process keeps its own batch-norm statistics while training; the loop takes those of the first before it saves or evaluates
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    if options.track and folder is None:
        raise BadInput(f"track={','.join(options.track)}: trackers need a run with a folder")
    trackers = {"log_with": list(options.track), "project_dir": str(folder / "trackers")} if options.track and folder else {}
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[options.precision]
    try:
        made = Accelerator(mixed_precision=mixed, cpu=options.device == "cpu", kwargs_handlers=[ddp], **trackers)
    except ValueError as error:
        raise BadInput(f"precision={options.precision}: {str(error).splitlines()[0]}; use one precision per process") from None
    if made.mixed_precision != mixed:
        raise BadInput(
            f"precision={options.precision}, but this process already runs in {made.mixed_precision!r}; use one precision per process"
        )
    return made
