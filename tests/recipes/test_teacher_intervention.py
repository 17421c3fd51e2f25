"""Teacher intervention: what is the teacher's when, what learns from what, and plain training as its limit."""

from __future__ import annotations

import pytest
import torch

from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.recipes.teacher_intervention import teacher_intervention
from tutelage.signals import Model
from tutelage.signals.attention import context, scores
from tutelage.state import Clock
from tutelage.students import cnn, vit
from tutelage.students.quantised import QuantisedLinear, quantised
from tutelage.teachers import Cached, Frozen
from tutelage.training import Fit, Run, RunOptions, SameWeights, Stage, train

SIZES = {"size": 6, "patch": 3, "width": 8, "depth": 2, "heads": 2, "classes": 3}
FIT = Fit(steps=24, batch_size=5, lr=1e-2)
QUIET = RunOptions(device="cpu", quiet=True, share_every=0, log_every=1)


def net(seed=0, **more):
    return Model(lambda: vit(**{**SIZES, **more}), seed=seed)


@pytest.fixture
def data(rng):
    train = Table({"x": torch.randn(20, 1, 6, 6, generator=rng), "y": torch.randint(3, (20,), generator=rng)})
    return Data(train, None, train, ("a", "b", "c"), "tiny")


def intervening(data, teacher=None, student=None, **knobs):
    plan = teacher_intervention(teacher or Frozen(net(0)), student or net(1), data, **{"steps": 12, "fit": FIT, **knobs})
    (stage,) = [p for p in plan.parts if isinstance(p, Stage) and p.name == "intervene"]
    (learner,) = stage.named.values()
    return plan, learner


def shown(learner, batch, step, taps=("logits",), student=None):
    """What the student shows at a step of the first stage, and the teacher."""
    for write in learner.writes:
        if hasattr(write.when, "begin"):
            write.when.open()
            write.when.begin(Clock("intervene", step, 12, 0, 1.0, 0))
    asked = {tap for write in learner.writes for tap in write.taps} | {"logits", *taps}
    teacher = learner.teacher.signals(batch, asked)
    return (student or learner.student).observe(batch, set(taps), writes=learner.writes, teacher=teacher), teacher


def phases(learner, steps=12):
    """Which kinds of write are on at each step, for the first block."""
    own = [w for w in learner.writes if w.path == "blocks.0.attention.project"]
    kinds = {"output": own[0].when, "context": own[1].when, "map": own[2].when}
    found = []
    for step in range(steps):
        for when in kinds.values():
            when.open()
            when.begin(Clock("intervene", step, steps, 0, 1.0, 0))
        found.append([kind for kind, when in kinds.items() if when.value])
    return found


def test_schedules_are_the_papers(data):
    """A sixth, a sixth and two thirds; the other way round in thirds; one at random."""
    gradual = phases(intervening(data)[1])
    assert gradual == [["output"]] * 2 + [["context"]] * 2 + [["map"]] * 8
    assert phases(intervening(data, schedule="inverted")[1]) == [["map"]] * 4 + [["context"]] * 4 + [["output"]] * 4
    drawn = phases(intervening(data, schedule="stochastic")[1])
    assert all(len(each) == 1 for each in drawn)
    assert {each[0] for each in drawn} == {"output", "context", "map"}


def test_with_outputs_of_the_teacher_only_what_follows_attention_is_the_students(data):
    """Whatever its attention weights: with blocks in full precision the student is its teacher."""
    _, learner = intervening(data)
    batch = data.train.batch(torch.arange(5))
    student = Model(vit(**SIZES))
    student.module.load_state_dict(learner.teacher.models()[0].module.state_dict())
    for block in student.module.blocks:
        for part in (block.attention.query, block.attention.key, block.attention.value, block.attention.project):
            torch.nn.init.normal_(part.weight)
    seen, teacher = shown(learner, batch, 0, student=student)
    torch.testing.assert_close(seen["logits"], teacher["logits"])
    seen, teacher = shown(learner, batch, 5, student=student)
    assert not torch.allclose(seen["logits"], teacher["logits"])


@pytest.mark.parametrize("step", [0, 2, 4])
def test_any_intervention_is_nothing_to_a_student_that_is_its_teacher(data, step):
    """Output, context and map of the same net are its own."""
    _, learner = intervening(data)
    batch = data.train.batch(torch.arange(5))
    seen, teacher = shown(learner, batch, step, student=learner.teacher.models()[0])
    torch.testing.assert_close(seen["logits"], teacher["logits"], rtol=1e-5, atol=1e-6)


def test_a_map_is_applied_to_the_students_values(data):
    """By hand: probabilities of the teacher, values of the student."""
    plan, learner = intervening(data)
    plan.parts[0].take(plan.parts[0].run(None))
    batch = data.train.batch(torch.arange(5))
    at = "blocks.0.attention."
    seen, teacher = shown(learner, batch, 6, (at + "value", at + "project"))
    told = context(scores(teacher[at + "query"], teacher[at + "key"], 2), seen[at + "value"])
    torch.testing.assert_close(seen[at + "project"], learner.student.module.get_submodule(at + "project")(told))


@pytest.mark.parametrize("step", [0, 2, 4])
def test_no_gradient_from_above_reaches_queries_and_keys(data, step):
    """Attention learns from its own losses alone; values do from above where the map is theirs."""
    _, learner = intervening(data)
    batch = data.train.batch(torch.arange(5))
    seen, _ = shown(learner, batch, step)
    seen["logits"].sum().backward()
    reached = {n for n, p in learner.student.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert not any(".query." in n or ".key." in n for n in reached)
    assert any(".value." in n for n in reached) == (step == 4)
    assert any("attention.project." in n for n in reached) == (step > 0)
    assert any(".mlp." in n for n in reached)


def test_both_stages_take_the_updates_of_plain_training_which_is_the_baseline(data):
    """A gain by more updates is none."""
    plan, _ = intervening(data)
    assert [p.updates() for p in plan.stages] == [12, 12]
    assert plan.updates(plan.product) == plan.baseline.updates(plan.baseline.product) == 24
    assert [p.name for p in plan.baseline.parts] == ["same-weights", "train"]
    capped, _ = intervening(data, steps=60)
    assert [p.updates() for p in capped.stages] == [12, 12]
    none = teacher_intervention(Frozen(net(0)), net(1), data, schedule="none", fit=FIT)
    assert [type(p) for p in none.parts] == [SameWeights, Stage]


def test_training_moves_the_student_towards_its_teacher_and_leaves_that_alone(data):
    """From the teacher's weights at few levels to what it says."""
    teacher = net(0)
    before = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    plan, _ = intervening(data, Frozen(teacher), fit=Fit(steps=60, batch_size=10, lr=3e-3))
    lines = []
    train(plan, Run(None, seed=3, options=QUIET, track=lines.append))
    assert all(torch.equal(v, before[k]) for k, v in teacher.module.state_dict().items())
    terms = [sum(line["terms"].values()) for line in lines if "terms" in line and line["stage"] == "train"]
    assert sum(terms[-5:]) < sum(terms[:5])
    assert sum(isinstance(m, QuantisedLinear) for m in plan.product.module.modules()) == 12
    assert plan.product.spec is None or plan.product.spec.startswith("ternary:")


def test_levels_of_a_student_that_has_some_are_kept(data):
    """`int4:SPEC` says what is wanted."""
    _, learner = intervening(data, student=quantised(net(1), "int4"))
    assert learner.student.module.blocks[0].attention.query.levels == "int4"
    _, learner = intervening(data, levels="binary")
    assert learner.student.module.blocks[0].attention.query.levels == "binary"


def test_an_encoder_of_text_is_taught_through_its_padding(rng):
    """Masks must reach scores and contexts; what stands in padding is nobody's."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12, "vocab_size": 30, "num_labels": 3}
    config = transformers.BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    made = lambda: transformers.BertForSequenceClassification(config)  # noqa: E731
    ids, lengths = torch.randint(3, 30, (20, 6), generator=rng), torch.randint(1, 7, (20,), generator=rng)
    mask = (torch.arange(6) < lengths[:, None]).long()
    data = Data(Table({"input_ids": ids, "attention_mask": mask}), None, None, ("a", "b", "c"), "tiny")
    teacher = Model(made, seed=0)
    plan, learner = intervening(data, Frozen(teacher), Model(made, seed=1))
    batch = data.train.batch(torch.arange(5))
    for step in (0, 2, 4):
        seen, told = shown(learner, batch, step, student=teacher)
        torch.testing.assert_close(seen["logits"], told["logits"], rtol=1e-4, atol=1e-5)
    train(plan, Run(None, seed=3, options=QUIET))
    assert plan.product.observe(batch, {"logits"})["logits"].isfinite().all()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"schedule": "sudden"}, "expected one of gradual"),
        ({"steps": 0}, "at least 1"),
        ({"levels": "int3"}, "expected one of ternary"),
        ({"student": net(1, width=12)}, "another architecture"),
        ({"student": net(1, depth=3)}, "another architecture"),
        ({"student": Model(lambda: cnn(width=2)), "teacher": Frozen(Model(lambda: cnn(width=2)))}, "is not known"),
    ],
)
def test_bad_input_is_refused_before_anything_is_built(data, knobs, said):
    """One sentence each."""
    given = {"teacher": Frozen(net(0)), "student": net(1), **knobs}
    with pytest.raises(BadInput, match=said):
        teacher_intervention(given.pop("teacher"), given.pop("student"), data, **given)


def test_a_cache_for_a_teacher_is_refused(data):
    """It shows no layers of new batches."""

    class Kept(Cached):
        def __init__(self):
            self.name = "kept"

        def models(self):
            return []

    with pytest.raises(BadInput, match="must be one model"):
        teacher_intervention(Kept(), net(1), data)
