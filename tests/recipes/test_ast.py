"""mtt and ast: experts, a beginning, a condensation and a student; the second is the first where its extras are off."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tutelage import Fit, Model, Run, RunOptions
from tutelage.data import Data, Table, representatives
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy
from tutelage.recipes.ast import INNER, ast
from tutelage.recipes.mtt import mtt
from tutelage.students import cnn
from tutelage.training import train
from tutelage.training.condensing import Inner, SmoothExpert

QUIET = RunOptions(device="cpu", quiet=True, share_every=0)
FITS = {
    "expert_fit": Fit(steps=8, optimizer="sgd", lr=0.05, batch_size=6, momentum=0.0, weight_decay=0.0, schedule="constant"),
    "condense_fit": Fit(steps=5, optimizer="sgd", lr=0.01, momentum=0.5, weight_decay=0.0, schedule="constant"),
    "fit": Fit(steps=3, optimizer="sgd", lr=0.05),
}
PLAIN = Inner(steps=4, ahead=2, starts=2)


def data() -> Data:
    made = torch.Generator().manual_seed(0)
    y = torch.arange(24) % 3
    return Data(
        Table({"x": torch.rand(24, 1, 6, 6, generator=made) + 0.3 * y[:, None, None, None], "y": y}, "train"), classes=("a", "b", "c")
    )


def student(seed: int = 4) -> Model:
    return Model(lambda: cnn(classes=3, channels=1, width=2, depth=2, pools=1), seed=seed)


def condensed(recipe, **knobs):
    plan = recipe(student(), data(), per_class=2, experts=2, **{**FITS, **knobs})
    train(plan, Run(None, seed=1, options=QUIET))
    return plan.also["condensed"].model.module


def test_the_stages_are_experts_the_condensation_and_the_student():
    plan = mtt(student(), data(), per_class=2, experts=3, inner=PLAIN, **FITS)
    assert [stage.name for stage in plan.stages] == ["expert-1", "expert-2", "expert-3", "condense", "study"]
    experts = [next(iter(stage.named.values())) for stage in plan.stages[:3]]
    firsts = [next(iter(learner.models.values())) for learner in experts]
    assert len({model.seed for model in (*firsts, plan.product)}) == 4, "experts of the same first weights would leave one trajectory"
    assert isinstance(experts[0].loss, CrossEntropy)
    smooth = ast(student(), data(), per_class=2, experts=1, inner=PLAIN, **FITS).stages[0]
    assert isinstance(next(iter(smooth.named.values())).loss, SmoothExpert)


def test_with_its_extras_off_ast_is_mtt_from_another_start():
    """Whatever it gains comes from the extras, then."""
    knobs = {"inner": PLAIN, "start": "random"}
    plain, smooth = condensed(mtt, **knobs), condensed(ast, clipping=1.0, penalty=0.0, **knobs)
    torch.testing.assert_close(smooth.x, plain.x)
    torch.testing.assert_close(smooth.lr, plain.lr)
    other = condensed(ast, inner=replace(INNER, steps=4, starts=2), start="random")
    assert not torch.allclose(other.x, plain.x)


@pytest.mark.parametrize("how", ["random", "k-means", "herding"])
def test_samples_begin_as_real_ones_of_their_class(how):
    held = {**FITS, "condense_fit": replace(FITS["condense_fit"], lr=1e-30)}
    made = condensed(mtt, inner=PLAIN, start=how, rate_lr=0.0, **held)
    table = data().train
    x, y = table.columns["x"], table.columns["y"]
    chosen = representatives(x, y, 2, how, 1)
    torch.testing.assert_close(made.x.detach(), x[chosen])
    assert made.y.tolist() == y[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    assert made.lr.item() == pytest.approx(0.05)


def test_the_student_studies_what_was_made_of_the_samples():
    """Not the real samples that they began with."""
    plan = mtt(student(), data(), per_class=2, experts=1, inner=PLAIN, **FITS)
    train(plan, Run(None, seed=1, options=QUIET))
    made = plan.also["condensed"]
    source = made.source()
    assert torch.equal(source.columns["x"], made.model.module.x.detach())
    assert not any(torch.equal(each, real) for each in source.columns["x"] for real in data().train.columns["x"])


def test_short_experts_are_started_from_where_they_have_been():
    """Else a try of a few updates would end in an error about snapshots."""
    short = {**FITS, "expert_fit": replace(FITS["expert_fit"], steps=3)}
    assert condensed(mtt, inner=Inner(steps=2, ahead=2, starts=5), **short).x.isfinite().all()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"per_class": 9}, "has 8 samples, fewer than per_class=9"),
        ({"experts": 0}, "experts=0: expected at least 1"),
        ({"rate": -1.0}, "expected learning rates"),
        ({"expert_fit": Fit(steps=1)}, "train experts longer"),
        ({"start": "middle"}, "start='middle': expected random, k-means, herding"),
    ],
)
def test_what_cannot_be_condensed_is_refused(knobs, said):
    with pytest.raises(BadInput, match=said):
        ast(student(), data(), **{"inner": PLAIN, "per_class": 2, **knobs})


def test_text_is_refused():
    text = Data(Table({"text": ["a b", "c d"], "y": torch.tensor([0, 1])}, "train"), classes=("a", "b"))
    with pytest.raises(BadInput, match="of which no samples can be condensed"):
        mtt(student(), text, per_class=1)
