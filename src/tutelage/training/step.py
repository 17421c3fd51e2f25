"""Step: what a loss sees of one micro-batch, with the signals that are remembered so that each model runs once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tutelage.errors import BadInput, nearest
from tutelage.randomness import generator, seeded
from tutelage.signals import Batch, Model, Signals, Tap, Write
from tutelage.signals.deferred import dense
from tutelage.signals.outputs import raised
from tutelage.state import Clock
from tutelage.teachers import Teacher

if TYPE_CHECKING:
    from tutelage.training.plan import View


class Step:
    """One micro-batch of one step.

    Args:
        batch: columns on the device.
        clock: where in the stage.
        learners: models by the names of their learners.
        views: of the samples, by name: what makes each, and the student with whose help.
        union: by id of a model or teacher, all taps that the stage's objectives want of it, asked for in its one pass.
        autocast: opens the precision that models run under.
        rank: this process.
        micro: number of the micro-batch in this process.
        device: of generators.
        deferring: by id, the models whose logits are deferred for objectives.

    Attributes:
        turn: how many turns of this step came before, in `order`, repeats counted.
        notes: what `note` was given.
    """

    def __init__(
        self,
        batch: Batch,
        clock: Clock,
        learners: Mapping[str, Model],
        union: Mapping[int, frozenset[Tap]],
        autocast: Callable[[], contextlib.AbstractContextManager[Any]],
        rank: int = 0,
        micro: int = 0,
        device: torch.device | str = "cpu",
        views: Mapping[str, tuple[View, Model]] | None = None,
        deferring: Collection[int] = (),
    ) -> None:
        self.batch, self.clock, self.turn = batch, clock, 0
        self.learners, self.rank, self.micro, self.device = learners, rank, micro, device
        self._union, self._autocast, self._deferring = union, autocast, deferring
        self._remembered: dict[tuple[int, str | None, int | None], tuple[Any, Signals]] = {}
        self.notes: dict[str, Tensor] = {}
        self._views, self._seen = views or {}, dict[str, Batch]()

    def seen_in(self, view: str | None) -> Batch:
        """The batch of a view, made at first sight and kept until its student is updated; None: the samples as they are.

        What is drawn while it is made leaves the generators of the step as they were.

        Raises:
            BadInput: no view of this name, or what was made has no ids.
        """
        if view is None:
            return self.batch
        if view not in self._seen:
            if view not in self._views:
                raise BadInput(f"no view is named {view!r}; there are {sorted(self._views)}{nearest(view, self._views)}")
            make, student = self._views[view]
            at = self.clock
            with seeded("view", at.seed, at.stage, at.step, self.turn, self.rank, self.micro, view), self._autocast():
                made = make(self, student)
            if "id" not in made:
                raise BadInput(f"the view {view!r} gave a batch without ids; keep the column 'id' of the batch it was made from")
            self._seen[view] = made
        return self._seen[view]

    def signals(
        self,
        who: str | Model | Teacher,
        taps: Collection[Tap],
        *,
        view: str | None = None,
        deferred: bool = False,
        writes: Sequence[Write] = (),
        teacher: Signals | None = None,
    ) -> Signals:
        """What a model or teacher shows on this batch, in float32 or wider, remembered until the model is updated.

        A model that this turn does not train is asked in evaluation mode and without a gradient on its weights.

        Args:
            who: a learner's name, a model, or a teacher.
            taps: what is wanted.
            view: name of a view, None for the samples as they are.
            deferred: whether logits may be `DeferredLogits`, where the stage defers those of the model.
            writes: what is changed on a model's way; what it shows so is remembered apart from what it shows by itself.
            teacher: what they put there.

        Raises:
            BadInput: no learner has this name.
        """
        found = self._shown(who, taps, view, writes, teacher)
        if deferred or not self._deferring:
            return found
        return Signals({tap: dense(s) for tap, s in found.items()}, found.present_B)

    def _shown(
        self, who: str | Model | Teacher, taps: Collection[Tap], view: str | None, writes: Sequence[Write], teacher: Signals | None
    ) -> Signals:
        if isinstance(who, str):
            if who not in self.learners:
                raise BadInput(f"no learner is named {who!r}; there are {list(self.learners)}{nearest(who, self.learners)}")
            who = self.learners[who]
        key = (id(who), view, id(writes) if writes else None)
        wanted = frozenset(taps)
        known = self._remembered.get(key)
        if known is not None:
            if wanted <= known[1].keys():
                return known[1]
            wanted |= known[1].keys()
        batch = self.seen_in(view)
        with self._autocast(), self._passing(who):
            asked = wanted | (self._union.get(id(who), frozenset()) if view is None else frozenset())
            if isinstance(who, Teacher):
                found = who.signals(batch, asked, view=view)
            else:
                found = who.observe(batch, asked, writes=writes, teacher=teacher)
        if isinstance(who, Teacher):
            # autocast keeps cast weights; those cast without a gradient must not be met again by a pass that wants one (older torch)
            torch.clear_autocast_cache()
        found = Signals({tap: raised(s) if isinstance(s, Tensor) else s for tap, s in found.items()}, found.present_B)
        self._remembered[key] = (who, found)
        return found

    def ask(self, model: Model, batch: Batch, taps: Collection[Tap]) -> Signals:
        """What a model shows on a batch that the loss made itself, in float32 or wider; nothing is remembered.

        For losses without samples, such as those of generators. A model that this turn does not train is asked as in `signals`.

        Args:
            model: who is asked; trained by this turn or not.
            batch: columns on the step's device, with the inputs of the model.
            taps: what is wanted.
        """
        with self._autocast():
            found = model.observe(batch, taps)
        return Signals({tap: raised(s) if isinstance(s, Tensor) else s for tap, s in found.items()})

    def _passing(self, who: Model | Teacher) -> contextlib.AbstractContextManager[object]:
        """Let those models give deferred logits whose heads the stage has put hooks on."""
        if not self._deferring:
            return contextlib.nullcontext()
        stack = contextlib.ExitStack()
        for model in who.models() if isinstance(who, Teacher) else [who]:
            if id(model) in self._deferring:
                stack.enter_context(model.deferring())
        return stack

    def forget(self, updated: Collection[Model]) -> None:
        """Drop the signals of models that were updated, of teachers that stand on them, and whatever holds a graph."""
        if not self._remembered:
            return
        gone = {id(m.module) for m in updated}

        def stale(who: Any, signals: Signals) -> bool:
            models = who.models() if isinstance(who, Teacher) else [who]
            return any(id(m.module) in gone for m in models) or any(s.requires_grad for s in signals.values())

        self._remembered = {k: (who, s) for k, (who, s) in self._remembered.items() if not stale(who, s)}

    def make_anew(self, updated: Collection[Model]) -> None:
        """Drop the views that were made with the help of models that were updated, and what was seen in them."""
        gone = {id(m.module) for m in updated}
        for view in [name for name in self._seen if id(self._views[name][1].module) in gone]:
            del self._seen[view]
            self._remembered = {key: kept for key, kept in self._remembered.items() if key[1] != view}

    def rng(self, purpose: str) -> torch.Generator:
        """A generator of its own for a purpose, a function of (seed, stage, step, turn, rank, micro-batch)."""
        at = self.clock
        return generator(purpose, at.seed, at.stage, at.step, self.turn, self.rank, self.micro, device=self.device)

    def note(self, name: str, value: Tensor) -> None:
        """Keep a number for controllers and metrics; averaged over micro-batches and processes."""
        self.notes[name] = value.detach()
