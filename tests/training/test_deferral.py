"""Trainings with deferred logits against the same with dense ones: the same weights, by either recipe; and when they are chosen.

The weights of two trainings agree to 1e-5 relative and 1e-6 absolute after five steps: the sums are the same, in another order.
"""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from small_texts import BATCH, FIT, V, columns, go, sharp, texts
from tutelage import Frozen, Model, RunOptions
from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.language.next_token import TERMS
from tutelage.objectives import CrossEntropy, Match, Term, mse, soft_targets
from tutelage.recipes.gkd import gkd
from tutelage.recipes.lm_kd import lm_kd
from tutelage.recipes.taid import taid
from tutelage.signals import DeferredLogits
from tutelage.signals.head import LARGE
from tutelage.signals.sparse import top_k
from tutelage.state import Stateful
from tutelage.students import gpt
from tutelage.teachers import Gives, Teacher
from tutelage.training import Fit, Learner, Plan, Stage, deferral

WIDTHS: list[int] = []


def watched(model: Model) -> Model:
    """The same handle; WIDTHS gets the positions that its head is shown."""
    model.module.head.register_forward_hook(lambda _m, _i, out: WIDTHS.append(out.shape[1]))
    return model


@pytest.fixture(autouse=True)
def _nothing_seen():
    WIDTHS.clear()


def student(**changes) -> Model:
    return Model(lambda: gpt(**{"classes": V, "width": 8, "depth": 1, "heads": 2, "context": 6, **changes}), seed=1)


def equal(one, other, **tolerance):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-5, "atol": 1e-5}))  # sums run in another order


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize(("alpha", "reduction"), [(1.0, "token"), (0.4, "sequence")])
@pytest.mark.parametrize("divergence", TERMS)
def test_lm_kd_trains_the_same_student(divergence, alpha, reduction, micro_batch):
    """Every divergence and both means, labels beside it, and micro-batches; neither head ever makes all logits."""
    knobs = {"divergence": divergence, "temperature": 2.0, "alpha": alpha, "reduction": reduction, "fit": FIT}
    found = {}
    for wish in ("never", "always"):
        own, teacher = watched(student()), watched(sharp())
        WIDTHS.clear()
        found[wish] = go(lm_kd(Frozen(teacher), own, texts(), **knobs), defer_logits=wish, micro_batch=micro_batch)
        assert set(WIDTHS) == ({0, 1} if wish == "always" else {6})
        assert WIDTHS.count(1) == (2 if wish == "always" else 0)  # the first pass of each model
    equal(found["always"][0], found["never"][0])
    for a, b in zip(found["always"][1], found["never"][1], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_taid_trains_the_same_student_and_moves_the_same_way(tied):
    """Its controller reads the loss; a loss that is another would move it elsewhere. Tied embeddings learn from both of their ends."""
    found = {}
    for wish in ("never", "always"):
        plan = taid(Frozen(sharp()), student(tied=tied), texts(), alpha=0.3, fit=FIT)
        found[wish] = go(plan, defer_logits=wish)
    equal(found["always"][0], found["never"][0])
    for a, b in zip(found["always"][1], found["never"][1], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_gkd_trains_the_same_student(divergence):
    """Models write with all of their logits, also while hooks are on their heads; what they wrote is compared without."""
    found = {}
    for wish in ("never", "always"):
        plan = gkd(Frozen(sharp()), student(), texts(), on_policy=0.5, divergence=divergence, prompt=2, tokens=3, alpha=0.5, fit=FIT)
        found[wish] = go(plan, defer_logits=wish)
    equal(found["always"][0], found["never"][0])
    for a, b in zip(found["always"][1], found["never"][1], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("wish", ["never", "always"])
def test_shares_of_the_gradient_change_no_bit_of_the_training(wish):
    """They are taken over the graph that the backward pass goes over next."""
    plain, sampled = (
        go(lm_kd(Frozen(sharp()), student(), texts(), alpha=0.5, fit=FIT), defer_logits=wish, share_every=every)[0] for every in (0, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), sampled.parameters(), strict=True))


class Failing(Table):
    """Cannot be read a ninth time."""

    reads, fatal = 0, 9

    def batch(self, positions, **how):
        if len(positions) == BATCH:
            Failing.reads += 1
            if Failing.reads == Failing.fatal:
                raise OSError("the disk is gone")
        return super().batch(positions, **how)


def test_a_run_that_broke_off_and_goes_on_equals_one_that_did_not(tmp_path):
    """Bit for bit, as with dense logits."""
    fit = Fit(steps=12, batch_size=BATCH, lr=0.05)
    found = {}
    for name, fatal in (("whole", 10**9), ("broken", 9)):
        Failing.reads, Failing.fatal = 0, fatal
        data = Data(Failing(columns()), classes=[str(v) for v in range(V)])
        options = {"defer_logits": "always", "checkpoint_every": 3}
        if name == "broken":
            with pytest.raises(OSError, match="disk"):
                go(lm_kd(Frozen(sharp()), student(dropout=0.1), data, alpha=0.5, fit=fit), tmp_path / name, **options)
        go(lm_kd(Frozen(sharp()), student(dropout=0.1), data, alpha=0.5, fit=fit), tmp_path / name, **options)
        found[name] = {p.name: p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
    assert found["broken"] == found["whole"]


def test_autocast_trains_nearly_the_same_student():
    """What the heads compute in is decided in the passes, not in the loss: the two differ by less than bfloat16 makes either differ."""
    found = {}
    for wish, precision in (("never", "fp32"), ("never", "bf16"), ("always", "bf16")):
        own = watched(student())
        WIDTHS.clear()
        module, _ = go(lm_kd(Frozen(sharp()), own, texts(), fit=FIT), defer_logits=wish, precision=precision)
        found[wish, precision] = torch.cat([p.detach().flatten() for p in module.parameters()])
        assert (0 in WIDTHS) == (wish == "always")
        AcceleratorState._reset_state(reset_partial_state=True)
    dense, half, deferred = found.values()
    assert 0 < float((half - deferred).norm()) < 0.5 * float((half - dense).norm())


class Kept(Teacher):
    """The likeliest tokens of a model, as a cache would give them."""

    gives = Gives(forms=frozenset({"top-k"}))

    def __init__(self, model: Model) -> None:
        self.model = model

    def signals(self, batch, taps, *, view=None):
        with torch.no_grad():
            told = self.model.observe(batch, {"logits"})
        told.values_by_tap["logits"] = top_k(told["logits"], 4)
        return told


@pytest.mark.parametrize("divergence", ["forward", "jsd"])
def test_a_cached_teacher_goes_with_a_deferred_student(divergence):
    """Half of the memory is the student's."""
    found = {}
    for wish in ("never", "always"):
        own = watched(student())
        WIDTHS.clear()
        found[wish], _ = go(lm_kd(Kept(sharp()), own, texts(), divergence=divergence, fit=FIT), defer_logits=wish)
        assert (6 in WIDTHS) == (wish == "never")
    equal(found["always"], found["never"])


class Reading(Stateful):
    """A part that looks at the logits after each batch, and one that a view looks at."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def after_batch(self, step) -> None:
        self.seen.append(step.signals("student", {"logits"})["logits"])


def test_whoever_asks_for_logits_beside_the_objective_gets_them(monkeypatch):
    """A part, a view and a loss that is a function know nothing of deferred ones."""
    part, given, made = Reading(), [], []

    def turned(step, model):
        made.append(model.observe(step.batch, {"logits"})["logits"])
        made.append(step.signals(model, {"logits"})["logits"])
        return {**step.batch, "input_ids": step.batch["input_ids"].flip(1)}

    class Spy(Match):
        def terms(self, own, teacher, batch):
            given.extend([own["logits"], teacher["logits"]])
            return super().terms(own, teacher, batch)

    def by_hand(step):
        return [
            Term("own", (step.signals("other", {"logits"})["logits"] - step.signals(teacher, {"logits"})["logits"]).square().mean((1, 2)))
        ]

    own, other, teacher = student(), student(), Frozen(sharp())
    loss = Spy("logits", by=soft_targets(1.0), name="plain") + Spy("logits", by=soft_targets(1.0), name="view").on("turned")
    learners = {
        "student": Learner(own, loss, teacher, views={"turned": turned}),
        "other": Learner(other, by_hand),
    }
    stage = Stage("s", learners, FIT, texts().train, parts=[part])
    go(Plan([stage], own), defer_logits="always")
    assert given
    assert all(isinstance(each, DeferredLogits) for each in given)
    assert all(isinstance(each, torch.Tensor) and each.shape[1:] == (6, V) for each in made + part.seen)


def large(**changes) -> Model:
    return student(classes=LARGE, width=4, heads=1, **changes)


def wide() -> Data:
    return Data(Table(columns()), classes=[])


def used(loss, own, teacher, **options) -> bool:
    """Whether a training showed the student's head no position."""
    plan = Plan([Stage("s", Learner(watched(own), loss, teacher), Fit(steps=1, batch_size=2), wide().train)], own)
    WIDTHS.clear()
    go(plan, **options)
    return 0 in WIDTHS


def test_by_default_large_vocabularies_are_deferred_where_all_terms_allow_it():
    """Nothing changes for small ones, nor for a term that needs all logits at once."""
    soft = Match("logits", by=soft_targets(1.0), name="soft")
    assert used(0.5 * CrossEntropy() + soft, large(), Frozen(large()))
    assert used(CrossEntropy(), large(), None)
    assert not used(soft, student(), Frozen(sharp()))
    assert not used(soft, large(), Frozen(large()), defer_logits="never")
    assert not used(soft + Match("logits", by=mse(), name="squares"), large(), Frozen(large()))
    assert used(soft + Match("blocks.0", by=mse(), name="hint"), large(), Frozen(large()))

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = large().module
            self.head = self.inner.head

        def forward(self, input_ids):
            return 2 * self.inner(input_ids)

    assert not used(soft, Model(Odd()), Frozen(large()))
    assert used(soft, large(), Frozen(Model(Odd())))


def test_the_run_says_whose_logits_are_deferred(capsys):
    """Whoever looks for a difference in the last digits finds its cause."""
    own = student()
    go(lm_kd(Frozen(sharp()), own, texts(), fit=Fit(steps=1, batch_size=2)), defer_logits="always", quiet=False)
    assert "note: stage 'distil': the logits of <lambda>" in capsys.readouterr().err


def test_what_must_be_deferred_but_cannot_is_refused_with_the_reason(monkeypatch):
    """Before anything trains."""
    soft = Match("logits", by=soft_targets(1.0), name="soft")
    with pytest.raises(BadInput, match="the term 'squares' cannot read them: mse is computed from all classes"):
        used(soft + Match("logits", by=mse(), name="squares"), student(), Frozen(sharp()), defer_logits="always")
    headless = Model(nn.Sequential(nn.Embedding(V, 4), nn.Linear(4, V)))
    plan = Plan([Stage("s", Learner(headless, CrossEntropy()), FIT, texts().train)], headless)
    with pytest.raises(BadInput, match="defer_logits=always: Sequential has no head that is known"):
        go(plan, defer_logits="always")
    monkeypatch.setattr(deferral, "WHOLE_HEADS", ())
    with pytest.raises(BadInput, match="keeps a head in parts"):
        used(soft, student(), Frozen(sharp()), defer_logits="always")
    assert not used(soft, large(), Frozen(large()))
    with pytest.raises(BadInput, match="defer_logits='sometimes'"):
        RunOptions(defer_logits="sometimes")
