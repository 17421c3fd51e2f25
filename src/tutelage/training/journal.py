"""Journal: what a stage tells while it runs: metrics.jsonl, a progress bar, and warnings; nothing is read off the device in between.

Sums of the terms gather on the device and are read at log intervals. That read is also the finite check: a NaN stays in a sum.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tutelage.errors import NotFinite
from tutelage.training.run import Run

WEAK = 0.01
"""A term with less than this share of the gradient is weak; this many samples in a row make a warning."""
PATIENCE = 3


class Journal:
    """The log of one stage.

    Args:
        run: whose folder and options.
        stage: name of the stage.
        steps: its updates.
        start: first step to come.
        offset: length of metrics.jsonl at that step; what stands behind it is cut off. None appends.
        gathered: what `state_dict` gave at that step.
    """

    def __init__(
        self, run: Run, stage: str, steps: int, start: int = 0, offset: int | None = None, gathered: Mapping[str, Any] | None = None
    ) -> None:
        self.run, self.stage, self.steps = run, stage, steps
        self.exact = torch.float32 if run.device.type == "mps" else torch.float64  # for sums over many steps
        self.sums: dict[str, Any] = {}
        self.counted: dict[str, int] = {}
        self.shares: dict[str, float] = {}
        self._weak: dict[str, int] = {}
        self._last = start
        if gathered:
            self._take(gathered)
        self._file: IO[str] | None = None
        self._bar: Any = None
        self._task: Any = None
        self._spoken = time.monotonic()
        if run.folder is not None and run.rank == 0:
            run.folder.mkdir(parents=True, exist_ok=True)
            path = run.folder / "metrics.jsonl"
            self._file = path.open("a")
            if offset is not None and path.stat().st_size > offset:
                self._file.truncate(offset)
        self.shown = run.rank == 0 and not run.options.quiet
        if self.shown and sys.stderr.isatty():
            self._open_bar(start)

    def _open_bar(self, start: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self.stage, total=self.steps, completed=start, terms="")

    def add(self, name: str, value: Tensor) -> None:
        """Gather this process's share of a term's mean over a step, or of a note's."""
        if name in self.sums:
            self.sums[name].add_(value.detach())  # adds in the sum's own precision
        else:
            self.sums[name] = value.detach().to(self.exact, copy=True)
        self.counted[name] = self.counted.get(name, 0) + 1

    def flush(self, step: int, epoch: int, lr: Mapping[str, float]) -> None:
        """Read the sums, check that they are finite, and write a line.

        Args:
            step: updates done.
            epoch: of the last of them.
            lr: learning rate of each learner.

        Raises:
            NotFinite: names the term.
        """
        if not self.sums or step == self._last:
            return
        terms = {n: v / self.counted[n] for n, v in self.check(step).items()}
        line = {"stage": self.stage, "step": step, "epoch": epoch, "terms": terms, "lr": dict(lr)}
        if self.shares:
            line["shares"] = self.shares
        self.write(line)
        self.sums, self.counted, self.shares, self._last = {}, {}, {}, step
        self._show(step, terms)

    def check(self, step: int) -> dict[str, float]:
        """Read the sums over all processes off the device.

        Raises:
            NotFinite: names the term.
        """
        if not self.sums:
            return {}
        values = self.run.total(torch.stack(list(self.sums.values()))).tolist()
        bad = [n for n, v in zip(self.sums, values, strict=True) if not math.isfinite(v)]
        if bad:
            raise NotFinite(self._not_finite(bad, self._last, step))
        return dict(zip(self.sums, values, strict=True))

    def state_dict(self, step: int) -> dict[str, Any]:
        """What has been gathered since the last line, so that a run that goes on from here writes the same lines; checked like a line.

        Raises:
            NotFinite: names the term.
        """
        return {"sums": self.check(step), "counted": self.counted, "shares": self.shares, "weak": self._weak, "last": self._last}

    def _take(self, gathered: Mapping[str, Any]) -> None:
        # the sums are of all processes; the first one goes on with them
        own = float(self.run.rank == 0)
        self.sums = {n: torch.tensor(v * own, dtype=self.exact, device=self.run.device) for n, v in gathered["sums"].items()}
        self.counted, self.shares = dict(gathered["counted"]), dict(gathered["shares"])
        self._weak, self._last = dict(gathered["weak"]), gathered["last"]

    def _not_finite(self, bad: list[str], since: int, step: int) -> str:
        what = f"term {bad[0]!r} became NaN or infinite" if len(bad) == 1 else f"terms {', '.join(map(repr, bad))} became NaN or infinite"
        kept = ""
        if self.run.folder is not None:
            found = sorted((self.run.folder / "checkpoints").glob("*-step-*"))
            kept = f"; the last good checkpoint is {found[-1]}" if found else "; there is no checkpoint yet"
        return (
            f"{what} between steps {since} and {step} of stage {self.stage!r}{kept}. "
            "Try a lower lr, a clip, warmup, or precision fp32, and check the inputs"
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl, and give it to the trackers."""
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
        if self.run.track is not None:
            self.run.track(line)

    def offset(self) -> int:
        """Length of metrics.jsonl, all of it on disk."""
        if self._file is None:
            return 0
        self._file.flush()
        return Path(self._file.name).stat().st_size

    def share(self, shares: Mapping[str, float]) -> list[str]:
        """Take a sample of the terms' shares of the gradient; gives a warning for each term that has been weak for long."""
        self.shares |= shares
        warnings = []
        for name, share in shares.items():
            self._weak[name] = self._weak.get(name, 0) + 1 if share < WEAK else 0
            if self._weak[name] == PATIENCE:
                warnings.append(
                    f"term {name!r} has had less than {WEAK:.0%} of the gradient for long ({share:.2%} now): raise its weight or drop it"
                )
        return warnings

    def say(self, text: str) -> None:
        """Print a line for people, on stderr."""
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr)

    def _show(self, step: int, terms: Mapping[str, float]) -> None:
        if not self.shown:
            return
        text = "  ".join(f"{n} {v:.4g}" for n, v in terms.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, terms=text)
        elif time.monotonic() - self._spoken > 10:
            self._spoken = time.monotonic()
            print(f"{self.stage}: step {step}/{self.steps}  {text}", file=sys.stderr)

    def close(self) -> None:
        """Close the file and the bar."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
