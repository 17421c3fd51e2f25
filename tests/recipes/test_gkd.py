"""gkd on sequences: against loops that write one sample at a time, in its limits, resumed; and what it refuses."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from small_texts import BATCH, FIT, SIZE, T, V, columns, descend, go, mean, net, sharp, texts
from tiny_tokenizers import letters
from tutelage import Fit, Frozen, Model
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput, Interrupted
from tutelage.language import from_rows, lessons
from tutelage.language.on_policy import on_policy, own_text
from tutelage.language.sampling import Sampling
from tutelage.randomness import derive, generator
from tutelage.recipes.gkd import gkd
from tutelage.recipes.lm_kd import lm_kd
from tutelage.state import Clock
from tutelage.students import gpt
from tutelage.teachers import Gives

SEED = 2  # of `go`


def divergences(p, q, beta):
    def kl(a, b):
        return (a * (a.log() - b.log())).sum(-1)

    m = beta * p + (1 - beta) * q
    return {"forward": kl(p, q), "reverse": kl(q, p), "jsd": beta * kl(p, m) + (1 - beta) * kl(q, m)}


def clock(step: int, steps: int = FIT.steps) -> Clock:
    return Clock("distil", step, steps, 0, 0.0, SEED)


def written(module, batch, epochs, step, prompt, tokens, temperature):
    """What a student writes after each prompt, sample by sample: all tokens, and how many of them are the prompt."""
    found = []
    for row in range(len(batch["id"])):
        size = min(prompt, int(batch["mask"][row].sum()))
        seed = derive("own-text", SEED, "distil", step, 0, int(batch["id"][row]), int(epochs[row]))
        uniform = torch.rand(tokens, dtype=torch.float64, generator=generator("generate", seed))
        text = batch["input_ids"][row, :size].tolist()
        for u in uniform[: T + 1 - size].tolist():
            with torch.no_grad():
                shares = (module(torch.tensor([text]))[0, -1].double() / temperature).softmax(-1)
            text.append(int((shares.cumsum(0) <= u).sum()))
        found.append((text, size))
    return found


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize(
    ("share", "divergence", "alpha", "reduction"),
    [(1.0, "jsd", 1.0, "token"), (1.0, "reverse", 1.0, "sequence"), (0.5, "forward", 0.4, "token"), (0.5, "jsd", 1.0, "sequence")],
)
def test_it_equals_a_loop_that_writes_one_sample_at_a_time(share, divergence, alpha, reduction, micro_batch):
    """Guards who writes, when, from which prompt; what counts of it, and which temperature touches what."""
    data, teacher, student = texts(), sharp(), Model(net, seed=1)
    expected, order = student.fresh(1).module, Order(SIZE, BATCH, SEED, "distil")
    branches = []
    for step in range(FIT.steps):
        positions, epochs = order.batch(step)
        batch = data.train.batch(positions)
        branches.append(on_policy(clock(step), share))
        z, told, mask, labels = expected(batch["input_ids"]), teacher.module(batch["input_ids"]).detach(), batch["mask"], 0.0
        if branches[-1]:
            rows = written(expected, batch, epochs, step, 2, 4, 0.7)
            longest = max(len(text) for text, _ in rows) - 1
            ids = torch.tensor([(text + [0] * T)[:longest] for text, _ in rows])
            mask = torch.tensor([[size - 1 <= i < len(text) - 1 for i in range(longest)] for text, size in rows])
            z, told = expected(ids), teacher.module(ids).detach()
        elif alpha < 1:
            labels = mean(F.cross_entropy(z.transpose(1, 2), batch["y"], ignore_index=-100, reduction="none"), mask, reduction)
        part = divergences((told / 2).softmax(-1), (z / 2).softmax(-1), 0.3)[divergence]
        descend(expected, alpha * 4 * mean(part, mask, reduction) + (1 - alpha) * labels)
    assert set(branches) == ({True} if share == 1 else {True, False})
    knobs = {"divergence": divergence, "beta": 0.3, "temperature": 2.0, "alpha": alpha, "reduction": reduction}
    writing = {"on_policy": share, "tokens": 4, "prompt": 2, "sampling_temperature": 0.7}
    ours, terms = go(gkd(Frozen(teacher), student, data, fit=FIT, **knobs, **writing), micro_batch=micro_batch)
    for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    if alpha < 1:
        assert [each["labels"] == 0 for each in terms] == branches


@pytest.mark.parametrize("knobs", [{"divergence": "forward"}, {"divergence": "jsd", "beta": 0.2, "alpha": 0.6, "reduction": "sequence"}])
def test_without_own_text_it_is_lm_kd_bit_for_bit(knobs):
    """The stated relation; a view that changed anything would hide in the comparison with the baseline."""
    found = [
        go(r(Frozen(sharp()), Model(net, seed=1), texts(), fit=FIT, **k, **knobs)) for r, k in ((lm_kd, {}), (gkd, {"on_policy": 0.0}))
    ]
    (one, terms), (other, others) = found
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert terms == others


def test_a_share_of_the_steps_is_on_policy_whatever_else_is_drawn():
    """The paper's lambda is a share of steps, drawn by none of the generators that anything else uses."""
    taken = [on_policy(clock(step, 4000), 0.3) for step in range(4000)]
    assert sum(taken) / 4000 == pytest.approx(0.3, abs=0.025)
    assert all(on_policy(clock(step), 1.0) and not on_policy(clock(step), 0.0) for step in range(200))
    assert all(on_policy(clock(step), 0.6) for step in range(300) if on_policy(clock(step), 0.3))


def test_only_the_prompts_matter_where_all_text_is_its_own():
    """Given answers must not leak into on-policy steps."""
    found = columns()
    other = {**found, "input_ids": found["input_ids"].clone()}
    other["input_ids"][:, 1:] = (other["input_ids"][:, 1:] + 3) % V
    plans = [
        gkd(Frozen(sharp()), Model(net, seed=1), Data(Table(each), classes=list("abcdefghijk")), on_policy=1.0, prompt=1, tokens=3, fit=FIT)
        for each in (found, other)
    ]
    one, two = (go(plan)[0] for plan in plans)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_teacher_is_asked_once_a_step_about_the_text_that_is_studied():
    teacher, seen = sharp(), []
    teacher.module.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    go(gkd(Frozen(teacher), Model(net, seed=1), texts(), on_policy=0.5, prompt=1, tokens=3, fit=FIT))
    branches = [on_policy(clock(step), 0.5) for step in range(FIT.steps)]
    assert seen[-FIT.steps :] == [3 if own else T for own in branches]
    assert len(seen) == FIT.steps + 1  # the opening of the stage looks at some of the first step


class Stopping(Table):
    """Asks the run to stop at the fourth batch."""

    reads, fatal = 0, -1

    def batch(self, positions, **how):
        if len(positions) == BATCH:
            Stopping.reads += 1
            if Stopping.reads == Stopping.fatal:
                os.kill(os.getpid(), signal.SIGINT)
        return super().batch(positions, **how)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    """What is written is a function of the step and the weights, so nothing of it is saved."""
    fit = Fit(steps=8, batch_size=BATCH, lr=0.05)
    found = {}
    for name, fatal in (("whole", -1), ("stopped", 4)):
        Stopping.reads, Stopping.fatal = 0, fatal

        def plan():
            data = Data(Stopping(columns()), classes=[str(v) for v in range(V)])
            student = Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=T, dropout=0.3), seed=1)
            return gkd(Frozen(sharp()), student, data, on_policy=0.5, prompt=2, tokens=4, alpha=0.7, fit=fit)

        if fatal > 0:
            with pytest.raises(Interrupted, match="step 4 of 8"):
                go(plan(), tmp_path / name)
        go(plan(), tmp_path / name)
        found[name] = {p.relative_to(tmp_path / name): p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
    assert found["stopped"] == found["whole"]
    assert len({on_policy(clock(step, 8), 0.5) for step in range(4, 8)}) == 2


def test_answers_end_as_those_of_the_data_do():
    """A student that never met an end of answer would not be taught to end its own."""
    tokenizer = letters()
    rows = [{"prompt": f"{i}?", "response": "yes"} for i in range(12)]
    data = lessons(from_rows(rows), tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert data.train.stop == {end, tokenizer.eos_token_id}
    student = Model(lambda: gpt(classes=len(tokenizer), width=8, depth=1, heads=2, context=80), seed=1)
    with torch.no_grad():  # the end is likely
        student.module.norm.bias[0] = 1.0
        student.module.head.weight[end, 0] = 1.5
    view = gkd(Frozen(student.fresh(2)), student, data, on_policy=1.0, tokens=40).stages[0].named["student"].views["text"]
    made = view(Here(data.train.batch(torch.arange(6)), clock(0)), student)
    assert 1 <= int(made["mask"].sum(1).min()) < int(made["mask"].sum(1).max()) <= 40
    for ids, mask in zip(made["input_ids"], made["mask"], strict=True):
        assert end not in ids[1:][mask[:-1]][: int(mask.sum()) - 1].tolist()  # nothing is written after it
    assert (made["y"] == -100).all()


@dataclass(frozen=True)
class Here:
    """What a view reads of a step."""

    batch: dict
    clock: Clock
    turn: int = 0


def test_a_view_keeps_what_is_said_of_samples():
    view = own_text(1.0, Sampling(2), prompt=1)
    batch = {**texts().train.batch(torch.arange(3)), "weight": torch.ones(3), "view": torch.tensor([0, 0, 1])}
    made = view(Here(batch, clock(0)), sharp())
    assert set(made) == {"input_ids", "y", "mask", "id", "weight", "view"}
    assert made["mask"].sum() == 6


def test_what_cannot_write_or_be_asked_is_refused():
    """Before anything trains."""
    teacher, student = Frozen(sharp()), Model(net)
    kept = Frozen(sharp())
    kept.gives = Gives(new_inputs=False)
    with pytest.raises(BadInput, match=r"gkd: the teacher .* cannot be asked about text that the student writes"):
        gkd(kept, student, texts())
    gkd(kept, student, texts(), on_policy=0.0)
    pictures = Data(Table({"x": torch.zeros(4, 3), "y": torch.arange(4)}), classes=list("abcd"))
    with pytest.raises(BadInput, match="column 'input_ids'"):
        gkd(teacher, student, pictures)
    packed = lessons(from_rows([{"text": "abc"}] * 9), letters(), length=16, packing="in-order")
    with pytest.raises(BadInput, match="packing=none"):
        gkd(teacher, student, packed)
    gkd(teacher, student, packed, on_policy=0.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"on_policy": 1.1},
        {"on_policy": float("nan")},
        {"divergence": "backward"},
        {"beta": 0.0},
        {"alpha": 0.0},
        {"alpha": 2.0},
        {"temperature": 0.0},
        {"tokens": 0},
        {"prompt": 0},
        {"sampling_temperature": -1.0},
        {"top_p": 0.0},
        {"top_k": -1},
        {"reduction": "mean"},
    ],
)
def test_knobs_that_are_none_are_refused(bad):
    with pytest.raises(BadInput):
        gkd(Frozen(sharp()), Model(net), texts(), **bad)
