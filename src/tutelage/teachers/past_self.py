"""PastSelf: the student as it was at its last visit to each sample. Shapes: B batch, V classes, N samples met so far."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.objectives.labels import as_rows
from tutelage.signals import Batch, Signals, Tap
from tutelage.state import State
from tutelage.teachers.teacher import Gives, Teacher

PROBABILITIES = "probabilities"


class PastSelf(Teacher):
    """Gives what the student said of each sample the last time it studied it, from a table by id; at first, the label.

    What is stored is the output of the training pass itself: in training mode, on the view of that visit, before that step's update. It
    costs no pass; it holds V floats for each sample met. With several processes each stores what all of them saw.

    Args:
        classes: number of classes, V.
        of: name of the learner whose past it is.

    Raises:
        BadInput: no classes, or a batch without labels.

    Source: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", 2021, section 3; the stored form.
    """

    gives = Gives(forms=frozenset(), taps=frozenset({PROBABILITIES}), new_inputs=False)
    name = "past self"

    def __init__(self, classes: int, of: str = "student") -> None:
        if classes < 1:
            raise BadInput(f"PastSelf(classes={classes}): expected at least 1")
        self.classes, self.of = classes, of
        self.rows: dict[int, int] = {}
        self.table_NV = torch.empty(0, classes)
        self._run: Any = None

    def begin_stage(self, run: Any) -> None:
        """Remember who gathers over processes."""
        self._run = run

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """The tap "probabilities": (B, V), rows that sum to 1."""
        y = batch.get("y")
        if y is None:
            raise BadInput("the past self begins with the labels, but the batch has no column 'y'")
        found_BV = as_rows(y, self.classes).float().clone()
        rows = [self.rows.get(i, -1) for i in batch["id"].tolist()]
        known = [place for place, row in enumerate(rows) if row >= 0]
        if known:
            found_BV[known] = self.table_NV[[rows[place] for place in known]].to(found_BV.device)
        return Signals({PROBABILITIES: found_BV})

    def after_batch(self, step: Any) -> None:
        """Keep what the student has just said; the signals are those of the step, so no pass is run."""
        logits_BV = step.signals(self.of, {"logits"})["logits"].detach()
        ids, said_BV = step.batch["id"], logits_BV.float().softmax(-1)
        if self._run is not None and self._run.ranks > 1:
            ids, said_BV = self._gathered(ids, said_BV)
        self._store(ids.tolist(), said_BV.cpu())

    def _gathered(self, ids: Tensor, said_BV: Tensor) -> tuple[Tensor, Tensor]:
        accelerator = self._run.accelerator
        ids = accelerator.gather(accelerator.pad_across_processes(ids, pad_index=-1))
        said_BV = accelerator.gather(accelerator.pad_across_processes(said_BV))
        return ids[ids >= 0], said_BV[ids >= 0]

    def _store(self, ids: list[int], said_BV: Tensor) -> None:
        new = len({i for i in ids if i not in self.rows})
        if len(self.rows) + new > len(self.table_NV):
            more = max(new, len(self.table_NV), 1024)
            self.table_NV = torch.cat([self.table_NV, torch.zeros(more, self.classes)])
        rows = [self.rows.setdefault(i, len(self.rows)) for i in ids]
        self.table_NV[rows] = said_BV

    def state_dict(self) -> State:
        """The ids met and their rows."""
        ids = torch.tensor(list(self.rows), dtype=torch.int64)
        return {"ids": ids, "table": self.table_NV[: len(ids)].clone()}

    def load_state_dict(self, state: State) -> None:
        """Take back the table."""
        ids, table = state["ids"], state["table"]
        assert isinstance(ids, Tensor)
        assert isinstance(table, Tensor)
        self.rows = {i: row for row, i in enumerate(ids.tolist())}
        self.table_NV = table.clone()
