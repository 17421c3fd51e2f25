"""Text that a teacher writes once, before the student studies it: the work, in parts that outlive a kill, and the samples it makes.

Shapes: B batch, N samples, T tokens of all of them.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Source
from tutelage.errors import BadInput, Interrupted, MissingFile
from tutelage.language.generation import context_of, generate, prompts_in, responses_as_batch, stops_of
from tutelage.language.lessons import Lessons, Text
from tutelage.language.progress import tracked
from tutelage.language.sampling import Sampling
from tutelage.randomness import derive
from tutelage.signals import Batch, Model
from tutelage.signals.cache import weights_of
from tutelage.state import Stateful
from tutelage.training import Action, Run
from tutelage.training.checkpoint import DamagedCheckpoint, read, write_atomically

FOLDER = "written"
"""Of a run, where the parts lie until all are there."""


class Written(Source):
    """The prompts of a source, each with what a teacher wrote after it, in a plan whose action does the writing.

    Until that is done, each prompt is followed by its last token, again and again, as often as there will be tokens at most: so that a
    rehearsal of the stage shows, before hours of writing, what does not fit into a model or into memory. The action stands before the
    stage in the plan, and what was not written is never trained on.

    Args:
        teacher: the model that writes.
        given: samples as `Lessons` gives them; of dialogues the prompts are taken, of running text the first tokens.
        sampling: how it writes.
        prompt: tokens of running text that it is given.
        outputs: texts after each prompt, at least 1.
        at_once: prompts that it writes after at a time.
        stop: tokens that end a text, besides those that the teacher names.
        vocabulary: tokens that mean something, see `generate`.

    Raises:
        BadInput: a number below 1, or samples without prompts.
    """

    def __init__(
        self,
        teacher: Model,
        given: Source,
        sampling: Sampling = Sampling(),
        *,
        prompt: int = 32,
        outputs: int = 1,
        at_once: int = 32,
        stop: Collection[int] = (),
        vocabulary: int | None = None,
    ) -> None:
        for name, value in (("outputs", outputs), ("at_once", at_once)):
            if not isinstance(value, int) or value < 1:
                raise BadInput(f"{name}={value!r}; expected at least 1")
        prompts_in(given.batch(torch.tensor([0])), prompt)
        self.teacher, self.given, self.sampling, self.prompt = teacher, given, sampling, prompt
        self.outputs, self.at_once, self.stop, self.vocabulary = outputs, at_once, frozenset(stop), vocabulary
        self.name = f"{given.name} as {teacher.name} writes it"
        self.action = Action("write", self._write)

    def __len__(self) -> int:
        return len(self.given) * self.outputs

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """What was written; before that, the prompts, and as many tokens as there may be."""
        read = dict(self._lessons.batch(positions)) if self.action.done else self._foreseen(positions)
        if "attention_mask" not in self.given.batch(torch.tensor([0])):  # its model looks at tokens alone
            del read["attention_mask"]
        return read

    def _foreseen(self, positions: Tensor) -> dict[str, Tensor]:
        prompts, context, most = self._prompts(positions), context_of(self.teacher), self.sampling.tokens
        room = [most if context is None else min(most, max(1, context + 1 - len(p))) for p in prompts]
        return responses_as_batch(prompts, [p[-1:].repeat(n) for p, n in zip(prompts, room, strict=True)], self.ids()[positions])

    def labels(self) -> Tensor | None:
        """The tokens to be predicted, (N, T); None before they are written."""
        return self._lessons.labels() if self.action.done else None

    def ids(self) -> Tensor:
        """Those of the prompts; texts after the first have ids of their own, made of the prompt's and their number."""
        return self._ids

    @functools.cached_property
    def _ids(self) -> Tensor:
        own = self.given.ids()
        others = [torch.tensor([derive("written", id, n) for id in own.tolist()]) for n in range(1, self.outputs)]
        return torch.cat([own, *others])

    def varies(self) -> bool:
        """Nothing is drawn once it is written."""
        return False

    def fingerprint(self) -> str:
        """Hash of the prompts' samples and of how texts are written after them; not of the teacher's weights."""
        settings = [self.given.fingerprint(), self.sampling, self.prompt, self.outputs, sorted(self.stop), self.vocabulary]
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    @functools.cached_property
    def _lessons(self) -> Lessons:
        result: Any = self.action.result
        written = result["tokens"].split(result["sizes"].tolist())
        texts = []
        for positions in self._parts():
            for place, prompt in zip(positions.tolist(), self._prompts(positions), strict=True):
                ids = torch.cat([prompt, written[place]])
                learnt = torch.arange(len(ids)) >= len(prompt)
                texts.append(Text(ids.int().numpy(), learnt.numpy(), int(self._ids[place])))
        longest = max(len(text.ids) for text in texts)
        return Lessons(texts, length=max(2, longest - 1), name=self.name, stop=self.stop)  # the last token is no input

    def _parts(self) -> tuple[Tensor, ...]:
        return torch.arange(len(self)).split(self.at_once)

    def _prompts(self, positions: Tensor) -> list[Tensor]:
        return prompts_in(self.given.batch(positions % len(self.given)), self.prompt)

    def _write(self, run: Run) -> dict[str, Tensor | float]:
        """All texts, part by part; parts that are there already, of the same work, are taken as they are.

        Processes share the parts where the run has a folder that all of them see; else each writes all.
        """
        parts = self._parts()
        shared = run.folder is not None and run.ranks > 1
        own = [n for n in range(len(parts)) if not shared or n % run.ranks == run.rank]
        kept: dict[int, dict[str, Tensor]] = {}
        shown = run.rank == 0 and not run.options.quiet
        self.teacher.module.to(run.device)
        work = f"{self.fingerprint()} {weights_of(self.teacher.module)} {run.seed} {self.at_once}"
        for done, number in enumerate(tracked(own, len(own), f"{self.teacher.name} writes, in parts of {self.at_once} texts", shown)):
            if run.stop_signal is not None:
                where = f"kept in {run.folder}; go on with --resume" if run.folder else "not kept, since the run has no folder"
                raise Interrupted(f"stopped while {self.teacher.name} wrote: {done} of {len(own)} parts are done, {where}", run.stop_signal)
            kept[number] = self._part(run, number, parts[number], work)
        run.accelerator.wait_for_everyone()
        found = [kept[n] if n in kept else self._part(run, n, parts[n], work) for n in range(len(parts))]
        tokens, sizes, ended = (torch.cat([each[key] for each in found]) for key in ("tokens", "sizes", "ended"))
        return {"tokens": tokens, "sizes": sizes, "ended": float(ended.float().mean())}

    def _part(self, run: Run, number: int, positions: Tensor, work: str) -> dict[str, Tensor]:
        """The texts of some prompts: from the run's folder, or written now and put there."""
        folder = None if run.folder is None else run.folder / FOLDER / f"{number:06d}"
        found = None if folder is None else _read(folder, work)
        if found is not None:
            return found
        prompts = [prompt.to(run.device) for prompt in self._prompts(positions)]
        ids = self.given.ids()[positions % len(self.given)].tolist()
        seeds = [derive("written", run.seed, id, place // len(self.given)) for id, place in zip(ids, positions.tolist(), strict=True)]
        options: Any = {"stop": self.stop, "vocabulary": self.vocabulary, "beyond": "cut"}
        with run.autocast():
            texts = [text.cpu() for text in generate(self.teacher, prompts, seeds, self.sampling, **options)]
        ends = torch.tensor(sorted(self.stop | stops_of(self.teacher)), dtype=torch.int64)
        made = {
            "tokens": torch.cat(texts).int(),
            "sizes": torch.tensor([len(text) for text in texts]),
            "ended": torch.isin(torch.stack([text[-1] for text in texts]), ends),
        }
        if folder is not None:
            write_atomically(folder, made, {"work": work})
        return made


class Tidy(Stateful):
    """Deletes the parts of what was written once the whole is kept with the run.

    Args:
        written: whose parts.
    """

    def __init__(self, written: Written) -> None:
        self.written = written

    def begin_stage(self, run: Any) -> None:
        """Delete them, unless this is the rehearsal before the writing."""
        if self.written.action.done and run.folder is not None and run.rank == 0:
            shutil.rmtree(run.folder / FOLDER, ignore_errors=True)


def _read(folder: Path, work: str) -> dict[str, Tensor] | None:
    """A part, where it is there, whole, and of this work."""
    try:
        tensors, state = read(folder)
    except (MissingFile, DamagedCheckpoint):
        return None
    return tensors if state.get("work") == work else None
