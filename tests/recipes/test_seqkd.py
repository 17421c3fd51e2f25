"""seqkd: its gradient against all texts, enumerated; against a loop; stopped while it writes; and what it refuses."""

from __future__ import annotations

import copy
import itertools
import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from small_texts import BATCH, FIT, SIZE, T, V, columns, descend, go, mean, net, sharp, texts
from tiny_tokenizers import letters
from tutelage import Ensemble, Fit, Frozen, Model, Run, RunOptions
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput, Interrupted
from tutelage.language import from_rows, lessons
from tutelage.language.written import FOLDER
from tutelage.objectives import CrossEntropy, Match, soft_targets
from tutelage.randomness import derive, generator
from tutelage.recipes.seqkd import seqkd
from tutelage.students import gpt
from tutelage.training import Action, Plan

SEED = 2  # of `go`


def tiny(seed: int) -> Model:
    """Over three symbols, with opinions, in float64."""
    model = Model(lambda: gpt(classes=3, width=4, depth=1, heads=1, context=3), seed=seed)
    model.module.double()
    with torch.no_grad():
        model.module.head.weight *= 2
    return model


def gradient(module: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()), allow_unused=True) if g is not None])


def shown(model: Model, batch):
    return {"logits": model.module(batch["input_ids"])}


def test_averaged_over_what_the_teacher_writes_it_has_the_gradient_of_forward_kl():
    """The reason why text alone can teach a distribution: two tokens of three symbols after each of two prompts, all of them enumerated."""
    teacher, student = tiny(1), tiny(2)
    ids = torch.tensor([[p, y] for p in (0, 2) for y in range(3)])  # what is read before the last token
    prefix = {"input_ids": ids, "id": torch.arange(6)}
    with torch.no_grad():
        log_p = teacher.module(ids).log_softmax(-1)
    chance = log_p[:, 0].exp().gather(1, ids[:, 1:])[:, 0] / 2  # of the prompt and the first token
    each = (
        Match("logits", by=soft_targets(1.0))
        .terms(_signals(shown(student, prefix)), _signals({"logits": log_p}), {**prefix, "mask": torch.ones_like(ids)})[0]
        .values
    )
    # the divergence after the prompt is there once for each prompt, that after a first token by its chance
    forward = (each[::3, 0].sum() / 2 + (chance * each[:, 1]).sum()) / 2
    expected = gradient(student.module, forward)

    total = torch.zeros_like(expected)
    for (row, prompt), last in itertools.product(enumerate(ids.tolist()), range(3)):
        y = torch.tensor([[prompt[1], last]])
        nll = CrossEntropy()(shown(student, {"input_ids": ids[row : row + 1]}), None, {"y": y, "id": torch.arange(1)})
        total += chance[row] * log_p[row, 1, last].exp() * gradient(student.module, nll)
    torch.testing.assert_close(total, expected)

    outputs = 3000
    prompts = Data(Table({"input_ids": torch.tensor([[0, 1], [2, 1]]), "mask": torch.ones(2, 2, dtype=torch.bool)}), classes=list("abc"))
    plan = seqkd(Frozen(teacher), student, prompts, outputs=outputs, tokens=2, prompt=1, at_once=500)
    batch = written_by(plan)
    drawn = gradient(student.module, plan.stages[0].named["student"].loss(shown(student, batch), None, batch))
    singly = torch.stack(
        [
            gradient(student.module, CrossEntropy()(shown(student, one), None, one))
            for one in ({k: v[i : i + 1] for k, v in batch.items()} for i in range(0, 2 * outputs, 41))
        ]
    )
    error = singly.std(0) / (2 * outputs) ** 0.5
    assert ((drawn - expected).abs() <= 4.5 * error + 1e-9).all()
    assert (drawn - expected).norm() < 0.1 * expected.norm()


def _signals(found):
    from tutelage.signals import Signals

    return Signals(found)


def written_by(plan: Plan, run: Run | None = None):
    """All samples that a plan's teacher wrote."""
    action, stage = plan.parts
    assert isinstance(action, Action)
    action.take(action.run(run or Run(seed=SEED, options=RunOptions(quiet=True))))
    return stage.data.batch(torch.arange(len(stage.data)))


def test_it_equals_a_loop_over_what_was_written_one_sample_at_a_time():
    """Guards which tokens count, whose draws are whose, and the order of samples."""
    data, teacher, student = texts(labels=False), sharp(), Model(net, seed=1)
    expected, rows = student.fresh(1).module, []
    for output, row in itertools.product(range(2), range(SIZE)):
        batch = data.train.batch(torch.tensor([row]))
        size = min(2, int(batch["mask"].sum()))
        seed = derive("written", SEED, int(batch["id"]), output)
        text = batch["input_ids"][0, :size].tolist()
        for u in torch.rand(3, dtype=torch.float64, generator=generator("generate", seed)).tolist():
            with torch.no_grad():
                shares = (teacher.module(torch.tensor([text]))[0, -1].double() / 0.8).softmax(-1)
            text.append(int((shares.cumsum(0) <= u).sum()))
        rows.append((text, size))
    order = Order(2 * SIZE, BATCH, SEED, "distil")
    for step in range(FIT.steps):
        chosen = [rows[i] for i in order.batch(step)[0].tolist()]
        padded = torch.tensor([(text + [0] * 5)[:5] for text, _ in chosen])
        mask = torch.tensor([[size - 1 <= i < len(text) - 1 for i in range(4)] for text, size in chosen])
        values = F.cross_entropy(expected(padded[:, :-1]).transpose(1, 2), padded[:, 1:], reduction="none")
        descend(expected, mean(values, mask, "sequence"))
    plan = seqkd(Frozen(teacher), student, data, outputs=2, temperature=0.8, tokens=3, prompt=2, at_once=5, reduction="sequence", fit=FIT)
    assert [(c.stage, c.steps, c.samples) for c in plan.cost()] == [("write", 0, 0), ("distil", FIT.steps, FIT.steps * BATCH)]
    ours, _ = go(plan)
    for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_what_is_written_does_not_depend_on_how_many_are_written_at_once():
    found = [written_by(seqkd(Frozen(sharp()), Model(net), texts(), tokens=4, prompt=2, at_once=n)) for n in (1, 5, 99)]
    for other in found[1:]:
        assert all(torch.equal(found[0][k], other[k]) for k in found[0])


def test_each_text_has_an_id_of_its_own():
    """All that is cached or weighted is keyed by it."""
    plan = seqkd(Frozen(sharp()), Model(net), texts(), outputs=3, tokens=2, prompt=1)
    batch = written_by(plan)
    assert len(set(batch["id"].tolist())) == 3 * SIZE
    assert batch["id"][:SIZE].tolist() == list(range(SIZE))
    assert torch.equal(plan.stages[0].data.ids(), batch["id"])
    texts_of = [{tuple(row.tolist()) for row in batch["y"][n * SIZE : (n + 1) * SIZE]} for n in range(3)]
    assert texts_of[0] != texts_of[1]


def test_given_answers_are_not_studied():
    found = columns()
    other = {**found, "input_ids": found["input_ids"].clone(), "y": (found["y"] + 1).clamp(min=-100) % V}
    other["input_ids"][:, 1:] = (other["input_ids"][:, 1:] + 3) % V
    one, two = (
        written_by(seqkd(Frozen(sharp()), Model(net), Data(Table(each), classes=list("abcdefghijk")), prompt=1, tokens=3))
        for each in (found, other)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_likeliest_text_is_written_without_draws():
    """Temperature 0 is the stated neighbour of the paper's beam search."""
    plan = seqkd(Frozen(sharp()), Model(net), texts(), outputs=2, temperature=0.0, tokens=4, prompt=1)
    batch = written_by(plan)
    assert torch.equal(batch["y"][:SIZE], batch["y"][SIZE:])
    logits = sharp().module(batch["input_ids"])
    assert torch.equal(logits.argmax(-1)[batch["mask"]], batch["y"][batch["mask"]])


def test_dialogues_are_answered_to_their_end():
    """The student must learn where to stop, and only from texts that the teacher did end."""
    tokenizer = letters()
    data = lessons(from_rows([{"prompt": f"{i}?", "response": "yes"} for i in range(12)]), tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    teacher = Model(lambda: gpt(classes=len(tokenizer), width=8, depth=1, heads=2, context=80), seed=1)
    with torch.no_grad():
        teacher.module.norm.bias[0] = 1.0
        teacher.module.head.weight[end, 0] = 1.5
    plan = seqkd(Frozen(teacher), teacher.fresh(2), data, tokens=30)
    batch = written_by(plan)
    answers = [y[y != -100].tolist() for y in batch["y"]]
    ended = [end in a for a in answers]
    assert any(ended)
    assert not all(ended)
    assert all(end not in a[:-1] and (len(a) == 30 or a[-1] in data.train.stop) for a in answers)
    assert plan.parts[0].result["ended"] == pytest.approx(sum(a[-1] in data.train.stop for a in answers) / len(answers))
    given = data.train.batch(torch.arange(len(data.train)))
    asked = [row[: int(mask.int().argmax()) + 1] for row, mask in zip(given["input_ids"], given["mask"], strict=True)]
    kept = [row[: int(mask.int().argmax()) + 1] for row, mask in zip(batch["input_ids"], batch["mask"], strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(asked, kept, strict=True))


class Counting:
    """Counts the passes of a teacher, and breaks off at one."""

    def __init__(self, model: Model, fatal: int = -1, how: str = "error") -> None:
        self.calls, self.fatal, self.how = 0, fatal, how
        model.module.register_forward_pre_hook(self)

    def __call__(self, module, args):
        self.calls += 1
        if self.calls == self.fatal and self.how == "error":
            raise OSError("the power is gone")
        if self.calls == self.fatal:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("how", ["error", "signal"])
def test_a_run_that_was_stopped_while_it_wrote_goes_on_bit_for_bit(how, tmp_path, capfd):
    """Hours of writing must survive; what was written must not be written again."""

    def plan(teacher):
        return seqkd(Frozen(teacher), Model(net, seed=1), texts(), tokens=4, prompt=1, at_once=3, fit=FIT)

    teacher = sharp()
    whole = Counting(teacher)
    go(plan(teacher), tmp_path / "whole")
    teacher = sharp()
    first = Counting(teacher, 10, how)  # in the third of five parts
    with pytest.raises(OSError if how == "error" else Interrupted, match=r"power|stopped while .* wrote: 3 of 5 parts are done, kept in"):
        go(plan(teacher), tmp_path / "stopped")
    teacher = sharp()
    second = Counting(teacher)
    go(plan(teacher), tmp_path / "stopped")
    found = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
        for name in ("whole", "stopped")
    }
    assert found["stopped"] == found["whole"]
    assert not any(FOLDER in str(p) for p in found["whole"])
    assert whole.calls == 20
    assert second.calls == (12 if how == "error" else 8)
    assert first.calls == (10 if how == "error" else 12)
    teacher = sharp()
    third = Counting(teacher)
    go(plan(teacher), tmp_path / "stopped")
    assert third.calls == 0


def test_parts_of_other_work_or_damaged_ones_are_written_anew(tmp_path):
    """A half-written file, or another teacher's text, would be studied without a word."""

    def write(teacher, **knobs):
        plan = seqkd(Frozen(teacher), Model(net), texts(), **{"tokens": 4, "prompt": 1, "at_once": 3, **knobs})
        counting = Counting(teacher)
        return written_by(plan, Run(tmp_path, seed=SEED, options=RunOptions(quiet=True))), counting.calls

    first, calls = write(sharp())
    assert calls == 20
    assert write(sharp())[1] == 0
    file = tmp_path / FOLDER / "000001" / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    again, calls = write(sharp())
    assert calls == 4
    assert all(torch.equal(first[k], again[k]) for k in first)
    other = copy.deepcopy(sharp())
    with torch.no_grad():
        other.module.head.weight[0, 0] += 1e-3
    assert write(other)[1] == 20
    assert write(sharp(), temperature=0.9)[1] == 20


def test_two_processes_share_the_writing(tmp_path):
    """Each must come to the whole, and write only its part."""
    found = {}

    for rank in (0, 1, 0):  # the first is asked again when the other has written: there is no barrier within one process
        teacher = sharp()
        plan = seqkd(Frozen(teacher), Model(net), texts(), tokens=4, prompt=1, at_once=3)
        counting = Counting(teacher)
        run = Run(tmp_path, seed=SEED, options=RunOptions(quiet=True))
        written = plan.stages[0].data
        parts = [n for n in range(5) if n % 2 == rank]
        for n in parts:
            written._part(run, n, written._parts()[n], "work")
        found.setdefault(rank, []).append(counting.calls)
    assert found == {0: [12, 0], 1: [8]}


def test_what_does_not_fit_shows_before_anything_is_written():
    """Hours later it would be too late."""
    teacher = sharp()
    counting = Counting(teacher)
    small = Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=3))
    with pytest.raises(BadInput, match=r"context of 3 tokens and got \d"):
        go(Plan([*seqkd(Frozen(teacher), small, texts(), tokens=4, prompt=2, fit=FIT).parts], small))
    assert counting.calls == 0


def test_what_cannot_write_is_refused():
    teacher, student = Frozen(sharp()), Model(net)
    several = Ensemble([Frozen(sharp()), Frozen(sharp(4))])
    with pytest.raises(BadInput, match=r"seqkd: the teacher .* cannot write; expected one model"):
        seqkd(several, student, texts())
    pictures = Data(Table({"x": torch.zeros(4, 3), "y": torch.arange(4)}), classes=list("abcd"))
    with pytest.raises(BadInput, match="column 'input_ids'"):
        seqkd(teacher, student, pictures)
    packed = lessons(from_rows([{"text": "abc"}] * 9), letters(), length=16, packing="in-order")
    with pytest.raises(BadInput, match="packing=none"):
        seqkd(teacher, student, packed)


@pytest.mark.parametrize(
    "bad", [{"outputs": 0}, {"at_once": 0}, {"tokens": 0}, {"prompt": 0}, {"temperature": -1.0}, {"top_p": 2.0}, {"reduction": "x"}]
)
def test_knobs_that_are_none_are_refused(bad):
    with pytest.raises(BadInput):
        seqkd(Frozen(sharp()), Model(net), texts(), **bad)


def test_a_text_as_long_as_the_context_is_studied_whole():
    """Its last token is predicted, not read."""
    plan = seqkd(Frozen(sharp()), Model(net), texts(), tokens=99, prompt=1, fit=Fit(steps=1, batch_size=BATCH))
    batch = written_by(plan)
    assert batch["input_ids"].shape == (SIZE, T)
    assert batch["mask"].all()
