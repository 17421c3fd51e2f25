"""The loop: carries out a plan, stage by stage and step by step; saves, resumes, and stops cleanly.

What a step does is a function of (plan, seed, stage, step), so a run that was killed and resumed equals one that was not, bit for bit on
the CPU. Knows nothing of recipes or of what the terms mean.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch
from torch import Tensor

from tutelage.data.loader import Slices, batches
from tutelage.errors import Interrupted, printable
from tutelage.objectives import sum_of
from tutelage.randomness import derive, seed_step
from tutelage.state import Clock, Controller, Record
from tutelage.training import reduction
from tutelage.training.action import Action
from tutelage.training.journal import Journal
from tutelage.training.opened import Opened, Turn
from tutelage.training.opening import open_stage, rehearse
from tutelage.training.optimizer import set_lr
from tutelage.training.plan import Plan
from tutelage.training.run import Run
from tutelage.training.saving import Saved, Saver
from tutelage.training.shares import gradient_shares
from tutelage.training.step import Step
from tutelage.training.tracking import tracking


def train(plan: Plan, run: Run) -> None:
    """Carry out a plan; what was finished in the run's folder before is taken from there.

    Args:
        plan: the stages; their models are trained in place.
        run: folder, seed, options, accelerator.

    Raises:
        NotFinite: a term or a weight became NaN or infinite; the last good checkpoint is kept.
        Interrupted: SIGINT or SIGTERM; the run is saved.
        Mismatch: the folder holds another plan's run.
    """
    saver = Saver(run, plan)
    finished = [i for i in range(len(plan.parts)) if saver.finished(i)]
    run.accelerator.wait_for_everyone()  # nobody finishes anything before all have looked, or they would not do the same
    rehearse(run, plan, leave_out=[*finished, len(finished)])  # the next one is about to open
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.listening())
        if run.options.track and run.track is None:
            run.track = stack.enter_context(tracking(run.accelerator, {"": plan}, {"seed": run.seed, **run.identity})).of("")
            stack.callback(setattr, run, "track", None)
        for index, stage in enumerate(plan.parts):
            if index in finished:
                saver.take_finished(index)
                continue
            if isinstance(stage, Action):
                _act(run, stage, saver, index)
                continue
            with open_stage(run, stage, index) as opened:
                saver.describe(opened)
                _Loop(plan, run, opened, saver).go()


def _act(run: Run, action: Action, saver: Saver, index: int) -> None:
    if run.rank == 0 and not run.options.quiet:
        print(printable(f"{action.name} ..."), file=sys.stderr)
    action.take(action.run(run))
    saver.keep(action, index)


class _Loop:
    def __init__(self, plan: Plan, run: Run, opened: Opened, saver: Saver) -> None:
        self.plan, self.run, self.opened, self.saver = plan, run, opened, saver
        self.stage = opened.stage
        self.named = {name: learner.student for name, learner in opened.learners.items()}
        self.controllers = opened.controllers
        self.feedback = any(type(c).update is not Controller.update for c in self.controllers)
        self.fits = {name: learner.fit or self.stage.fit for name, learner in opened.learners.items()}
        self.slices = None if opened.order is None else Slices(opened.order, run.rank, run.ranks, run.options.micro_batch)
        self.parts = self.slices.parts if self.slices else 1
        self.end = opened.steps if run.limit is None else min(opened.steps, run.limit)
        self.optimizers = opened.optimizers
        self.prefixed = len(opened.learners) > 1
        self.record: dict[str, list[Tensor]] = {}
        self.notes: dict[str, list[Tensor]] = {}
        self.means: dict[str, Any] = {}
        self.noted: dict[str, list[Tensor]] = {}

    def go(self) -> None:
        """Run the stage from where it was left."""
        opened, run = self.opened, self.run
        saved = self.saver.restore(opened)
        self.start = saved.step
        self.journal = Journal(run, self.stage.name, opened.steps, saved.step, saved.offset, saved.journal)
        try:
            if not saved.step:
                for notice in opened.notices:
                    self.journal.say(f"note: {notice}")
            self._steps(saved)
            self._finish(saved)
        finally:
            self.journal.close()

    def _steps(self, saved: Saved) -> None:
        opened, run, every = self.opened, self.run, self.run.options
        opened.training_mode(opened.turns[0])
        feed = self._feed(saved.step)
        with contextlib.closing(feed):
            for number in range(saved.step, self.end):
                steps = self._step(number, next(feed))
                done = number + 1
                epoch = opened.order.epoch(number) if opened.order else 0
                ended = opened.order is not None and (opened.order.epoch(done) > epoch or done == self.end)
                last = done == self.end
                for part in opened.parts.values():
                    part.after_step(steps[-1])
                    if ended:
                        part.after_epoch(steps[-1])
                if done % every.log_every == 0 or last:
                    self._log(done)
                self._watch(done, epoch, ended, saved)
                stop = not last and run.stopping(done)
                if stop or (done % every.checkpoint_every == 0 and not last):
                    self._save(done, saved)
                if stop:
                    kept = f"and saved in {run.folder}; go on with --resume" if run.folder else "and not saved, since it has no folder"
                    raise Interrupted(
                        f"stopped at step {done} of {opened.steps} of stage {self.stage.name!r}, {kept}", run.stop_signal or 15
                    )

    def _feed(self, start: int) -> Any:
        if self.opened.source is None or self.slices is None:
            return ([{}] for _ in range(start, self.end))
        views = self.opened.views
        seed = self.run.seed if views is None or not views.count else views.seed
        return batches(self.opened.source, self.slices, seed=seed, start=start, stop=self.end, workers=self.run.options.workers)

    def _step(self, number: int, micros: list[Any]) -> list[Step]:
        opened, run, stage = self.opened, self.run, self.stage
        order = opened.order
        epochs = opened.steps * order.batch_size / order.size if order else 0.0
        clock = Clock(stage.name, number, opened.steps, order.epoch(number) if order else 0, epochs, run.seed)
        for controller in self.controllers:
            controller.begin(clock)
        steps = [
            Step(
                run.place(batch), clock, self.named, opened.union, run.autocast, run.rank, micro, run.device, opened.made, opened.deferring
            )
            for micro, batch in enumerate(micros)
        ]
        for name, optimizer in self.optimizers.items():
            set_lr(optimizer, self.fits[name].factor(number, opened.steps))
        self.record, self.notes = {}, {}
        count = 0
        for turn in opened.turns:
            if number % turn.every:
                continue
            opened.begin_turn(turn)
            for _ in range(turn.repeat):
                for step in steps:
                    step.turn = count
                self._turn(turn, steps, number)
                count += 1
        if self.feedback:
            self._feed_back(clock)
        return steps

    def _turn(self, turn: Turn, steps: list[Step], number: int) -> None:
        opened, run = self.opened, self.run
        foretold = None
        if self.parts > 1:
            foretold = reduction.predicted(turn.learners, opened.masked, steps)
        totals = reduction.whole(run, foretold) if foretold else {}
        updated: set[str] = set()
        self.means, self.noted = {}, {}
        for step in steps:
            step.forget(turn.models)  # what others asked of them has no way back for gradients
            step.notes.clear()
            seed_step(derive("step", run.seed, self.stage.name, number, run.rank, step.turn, step.micro))
            last = step is steps[-1]
            with contextlib.nullcontext() if last or run.ranks == 1 else run.accelerator.no_sync(turn.trainee):
                found: reduction.Found = turn.trainee(step)
                if foretold is None:
                    totals = reduction.whole(run, [reduction.shown(found)])
                else:
                    reduction.agree(found, foretold[step.micro], read=number == self.start)
                loss = self._loss(turn, found, totals, step, number)
                if loss is not None:
                    updated |= {n for n, terms in found.items() if terms is not None}
                    run.backward(loss)
            for part in opened.parts.values():
                part.after_batch(step)
        for name in sorted(updated):
            clip, optimizer = self.fits[name].clip, turn.optimizers[name]
            if clip is not None:
                run.accelerator.clip_grad_norm_(turn.parameters[name].values(), clip)
            run.update(optimizer)
            if name in opened.averages:
                opened.averages[name].update()
        self._gather(steps)
        for step in steps:
            step.forget(turn.models)
            step.make_anew(turn.models)

    def _loss(self, turn: Turn, found: reduction.Found, totals: reduction.Counts, step: Step, number: int) -> Tensor | None:
        """The part of the step's loss that this micro-batch holds: sums over the counts of the whole step."""
        loss: Any = None
        sampled = step.micro == 0 and self._sampled(number)
        for name, terms in found.items():
            parts: dict[str, Tensor] = {}
            for term in terms or ():
                total = reduction.counted(totals, name, term)
                assert total is not None
                mean = sum_of(term) / total
                label = self._label(name, term.name)
                self.means[label] = self.means.get(label, 0.0) + mean.detach()
                for note, value in term.notes.items():
                    self.noted.setdefault(note, []).append(value.detach())
                parts[label] = term.weight * mean
                loss = parts[label] if loss is None else loss + parts[label]
            if sampled:
                own = [p for n, p in turn.parameters[name].items() if not n.startswith("objective.")]
                for warning in self.journal.share(gradient_shares(parts, own)):
                    self.journal.say(f"warning: {warning}")
        # the wrapper averages gradients over processes, the counts are already of all of them
        return loss * self.run.ranks if loss is not None and self.run.ranks > 1 else loss

    def _sampled(self, number: int) -> bool:
        every = self.run.options.share_every
        return every > 0 and number % every == 0 and not self.run.options.compile

    def _label(self, learner: str, term: str) -> str:
        return f"{learner}/{term}" if self.prefixed else term

    def _gather(self, steps: list[Step]) -> None:
        """Add a turn's means and notes, this process's share of each, to the journal and to what controllers see."""
        for step in steps:
            for note, value in step.notes.items():
                self.noted.setdefault(note, []).append(value)
        notes = {n: torch.stack([v.to(self.journal.exact) for v in values]).mean() / self.run.ranks for n, values in self.noted.items()}
        for kept, gathered in ((self.record, self.means), (self.notes, notes)):
            for name, value in gathered.items():
                self.journal.add(name, value)
                kept.setdefault(name, []).append(value)

    def _feed_back(self, clock: Clock) -> None:
        """Show controllers the means over the step, its repeats, and all processes."""
        values = [torch.stack([v.to(self.journal.exact) for v in each]).mean() for each in (*self.record.values(), *self.notes.values())]
        if not values:
            return
        whole = self.run.total(torch.stack(values)).float()
        terms = dict(zip(self.record, whole[: len(self.record)], strict=True))
        record = Record(clock, terms, dict(zip(self.notes, whole[len(self.record) :], strict=True)))
        for controller in self.controllers:
            controller.update(record)

    def _log(self, done: int) -> None:
        order = self.opened.order
        lr = {name: o.param_groups[0]["lr"] for name, o in self.opened.optimizers.items()}
        self.journal.flush(done, order.epoch(done - 1) if order else 0, lr)

    def _watch(self, done: int, epoch: int, ended: bool, saved: Saved) -> None:
        """Measure the product where it is time, with its averaged weights where there are any."""
        product = self.plan.product
        name = next((n for n, each in self.opened.learners.items() if each.student is product), None)
        if self.run.watch is None or name is None:
            return
        every = self.fits[name].measure_every
        if not (ended if every is None else done % every == 0 or done == self.end):
            return
        self.saver.share_buffers(self.opened)
        average = self.opened.averages.get(name)
        if average:
            average.swap()
        numbers = dict(self.run.watch(product))
        # a model of language is chosen by its perplexity, a classifier by its accuracy
        worth = -numbers["nll"] if "perplexity" in numbers else numbers.get("accuracy", float("-inf"))
        best = self.fits[name].keep == "best" and worth > saved.best
        if best:
            saved.best = worth
            self.saver.save_best(self.opened, name, done, saved.best)
        if average:
            average.swap()
        self.opened.training_mode(self.opened.turns[0])
        self.journal.write({"stage": self.stage.name, "step": done, "epoch": epoch, "validation": numbers})

    def _save(self, done: int, saved: Saved) -> None:
        gathered = self.journal.state_dict(done)
        self.saver.check_finite(self.opened, done)
        self.saver.save(self.opened, Saved(done, self.journal.offset(), saved.best, gathered))

    def _finish(self, saved: Saved) -> None:
        for name in self.opened.averages:
            self.opened.averages[name].swap()
        self.saver.check_finite(self.opened, self.end)
        best = {n: f.keep == "best" and self.run.watch is not None for n, f in self.fits.items()}
        self.saver.finish(self.opened, best, self.journal.offset())
