"""Divergences on sparse logits against NumPy and against the dense forms, in expectation over draws, and at the edges.

Shapes: B=3, T=5, V=7, K=2.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import (
    ConfidenceWeighted,
    Distance,
    Match,
    cosine,
    jensen_shannon,
    mse,
    permuted_dark,
    probability_cross_entropy,
    regressor,
    soft_cross_entropy,
    soft_targets,
)
from tutelage.objectives.logits import js_divergence, kl_divergence, soft_ce
from tutelage.objectives.sparse import sparse_cross_entropy, sparse_jsd, sparse_kl
from tutelage.signals.sparse import TAILS, sampled, top_k
from tutelage.state import linear_ramp

B, T, V, K = 3, 5, 7, 2
INF = float("inf")
SPARSE = {
    "kl": sparse_kl,
    "ce": sparse_cross_entropy,
    "js": sparse_jsd,
    "skewed js": lambda s, t, temperature=1.0: sparse_jsd(s, t, 0.1, temperature),
}
DENSE = {
    "kl": kl_divergence,
    "ce": soft_ce,
    "js": js_divergence,
    "skewed js": lambda s, t, temperature=1.0: js_divergence(s, t, 0.1, temperature),
}
each = pytest.mark.parametrize("name", SPARSE)
each_tail = pytest.mark.parametrize("tail", TAILS)
FORMS = [*TAILS, "sampled"]
each_form = pytest.mark.parametrize("form", FORMS)


def pair(rng, *shape, scale=2.0):
    return (scale * torch.randn(2, *shape, dtype=torch.float64, generator=rng)).unbind()


def kept(form, logits, k=K, temperature=1.0):
    """Logits in one of the forms that are tested; of drawn classes, by numbers that differ from row to row."""
    if form == "sampled":
        rows = math.prod(logits.shape[:-1])
        uniforms = torch.linspace(0.05, 0.95, rows, dtype=torch.float64).reshape(logits.shape[:-1])
        return sampled(logits, k, uniforms, temperature)
    return replace(top_k(logits, k, temperature), tail=form)


def gradient(values, of):
    return torch.autograd.grad(values.sum(), of)[0]


def softmax(logits, temperature=1.0):
    return scipy.special.softmax(logits.detach().numpy() / temperature, axis=-1)


def over_classes(name, p, q):
    """One divergence of two probability rows, class by class in a loop."""
    beta, total = {"js": 0.5, "skewed js": 0.1}.get(name), 0.0
    for p_v, q_v in zip(p, q, strict=True):
        if beta is not None:
            m = beta * p_v + (1 - beta) * q_v
            total += (beta * p_v * math.log(p_v / m) if p_v > 0 else 0.0) + ((1 - beta) * q_v * math.log(q_v / m) if q_v > 0 else 0.0)
        elif p_v > 0:
            total += p_v * ((math.log(p_v) if name == "kl" else 0.0) - math.log(q_v))
    return total


def by_tail(name, student, teacher, k, tail, temperature):
    """What a row of dense logits means once its tail is gone, written out over all of its classes (or K + 1 of them)."""
    rows = []
    for q, p in zip(softmax(student, temperature).reshape(-1, V), softmax(teacher, temperature).reshape(-1, V), strict=True):
        first, others = np.argsort(-p)[:k], np.argsort(-p)[k:]
        if tail == "bucket":
            p, q = np.append(p[first], p[others].sum()), np.append(q[first], q[others].sum())
        else:
            left, p = p[others].sum(), np.where(np.isin(np.arange(V), first), p, 0.0)
            if tail == "spread":
                p[others] = left / (V - k)
            else:
                p = p / p.sum()
        rows.append(temperature**2 * over_classes(name, p, q))
    return np.array(rows).reshape(student.shape[:-1])


# --- what it equals


@each
@each_tail
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_top_k_equals_the_explicit_distributions_that_its_tail_stands_for(rng, name, tail, shape, temperature):
    """A tail handled otherwise than it is named is another method under the same name."""
    student, teacher = pair(rng, *shape)
    for k in (1, K, V - 1):
        values = SPARSE[name](student, kept(tail, teacher, k, temperature), temperature=temperature)
        assert values.shape == shape[:-1]
        np.testing.assert_allclose(values.numpy(), by_tail(name, student, teacher, k, tail, temperature), rtol=1e-9, atol=1e-14)


@each
@each_form
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_with_all_classes_kept_value_and_gradient_are_the_dense_ones(rng, name, form, temperature, shape):
    """Keeping everything must cost nothing, whatever is made of the tail that is not there."""
    student, teacher = pair(rng, *shape)
    student.requires_grad_()
    sparse = SPARSE[name](student, kept(form, teacher, V, temperature), temperature=temperature)
    dense = DENSE[name](student, teacher, temperature=temperature)
    torch.testing.assert_close(sparse, dense, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient(sparse, student), gradient(dense, student), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["kl", "js", "skewed js"])
def test_a_bucket_tells_apart_no_more_than_all_classes_do_and_more_with_each_class_kept(rng, name):
    """Data processing: what is lumped together cannot differ more. A tail that is counted twice breaks it."""
    student, teacher = pair(rng, B, V)
    values = torch.stack([SPARSE[name](student, kept("bucket", teacher, k)) for k in range(1, V + 1)])
    assert (values.diff(dim=0) >= -1e-12).all()
    assert (values[0] > 0).all()
    torch.testing.assert_close(values[-1], DENSE[name](student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_of_kl_is_temperature_times_the_gap_of_probabilities(rng, temperature):
    """By tail and by draw: q - p at the kept classes; q times 1 - P/Q, q, or q - p at the others; or q less the weights."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    first = np.zeros_like(p, dtype=bool)
    np.put_along_axis(first, np.argsort(-p, axis=-1)[:, :K], True, axis=-1)
    left, own = np.where(first, 0, p).sum(-1, keepdims=True), np.where(first, 0, q).sum(-1, keepdims=True)
    drawn = kept("sampled", teacher, K, temperature)
    weights = torch.zeros(B, V, dtype=torch.float64).scatter(-1, drawn.ids, drawn.log_weights.exp()).numpy()
    expected = {
        "bucket": np.where(first, p, q * left / own),
        "renormalize": np.where(first, p / (1 - left), 0.0),
        "spread": np.where(first, p, left / (V - K)),
        "sampled": weights,
    }
    for form, target in expected.items():
        found = gradient(sparse_kl(student, kept(form, teacher, K, temperature), temperature), student)
        np.testing.assert_allclose(found.numpy(), temperature * (q - target), atol=1e-12, err_msg=form)


@each_form
def test_cross_entropy_and_kl_have_the_same_gradient_and_differ_by_the_teachers_entropy(rng, form):
    """The stated relation, as it holds for all classes."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    target = kept(form, teacher)
    kl, ce = sparse_kl(student, target), sparse_cross_entropy(student, target)
    torch.testing.assert_close(gradient(kl, student), gradient(ce, student))
    other = torch.randn(B, V, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(ce - kl, sparse_cross_entropy(other, target) - sparse_kl(other, target))
    torch.testing.assert_close(sparse_cross_entropy(student, kept(form, teacher, K, 3.0), 3.0, scaled=False) * 9,
                               sparse_cross_entropy(student, kept(form, teacher, K, 3.0), 3.0))  # fmt: skip


# --- what is drawn


def on_grid(row, n, k=K, temperature=1.0):
    """A teacher's row, drawn by n evenly spaced uniform numbers: their mean is the expectation, up to about 1 / n."""
    return sampled(row.expand(n, -1), k, (torch.arange(n, dtype=torch.float64) + 0.5) / n, temperature)


@each
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_drawn_classes_give_the_dense_value_and_gradient_in_expectation(rng, name, temperature, k):
    """A biased gradient does not average out, however long one trains."""
    (student, teacher), n = pair(rng, V, scale=1.5), 20_001
    each_row = student.expand(n, -1).clone().requires_grad_()
    values = SPARSE[name](each_row, on_grid(teacher, n, k, temperature), temperature=temperature)
    dense = student[None].clone().requires_grad_()
    expected = DENSE[name](dense, teacher[None], temperature=temperature)
    torch.testing.assert_close(values.mean(), expected[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(gradient(values, each_row).mean(0), gradient(expected, dense)[0], rtol=0, atol=1e-3)


@each
def test_the_error_of_a_mean_of_random_draws_falls_with_the_root_of_their_number(rng, name):
    """What is unbiased and independent from row to row does; a bias stays. 64 times the draws, an eighth of the error."""
    student, teacher = pair(rng, 64, scale=1.0)
    expected = DENSE[name](student[None], teacher[None])
    errors = {}
    for n, times in ((16, 512), (1024, 64)):
        drawn = sampled(teacher.expand(times, n, -1), 4, torch.rand(times, n, dtype=torch.float64, generator=rng))
        means = SPARSE[name](student.expand(times, n, -1), drawn).mean(-1)
        errors[n] = (means - expected).square().mean().sqrt().item()
    assert 6 < errors[16] / errors[1024] < 10.5


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_one_drawn_class_that_only_the_student_finds_likely_does_not_take_over_the_divergence(beta):
    """Its ratio of probabilities, 2e7 here, would multiply its weight in the plain sum."""
    teacher = torch.tensor([0.0, *[-14.0] * 50], dtype=torch.float64)
    student = torch.tensor([[0.0, *[-14.0] * 49, 3.0]], dtype=torch.float64).requires_grad_()
    seen = []
    for u in torch.linspace(0.001, 0.999, 50, dtype=torch.float64):
        drawn = sampled(teacher[None], 2, u[None])
        value = sparse_jsd(student, drawn, beta)
        seen.append(value.item())
        assert gradient(value, student).abs().max() <= beta + 1e-9
    assert max(seen) - min(seen) < 0.01
    assert np.mean(seen) == pytest.approx(js_divergence(student, teacher[None], beta).item(), abs=1e-3)


# --- what it does not depend on


@each
@each_form
def test_values_ignore_a_constant_and_the_order_of_what_was_kept_and_gradients_sum_to_zero(rng, name, form):
    """Logits mean the same up to a constant; a gradient with a sum would drift along it."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    target = kept(form, teacher, 3)
    values = SPARSE[name](student, target)
    torch.testing.assert_close(SPARSE[name](student + torch.randn(B, 1, dtype=torch.float64, generator=rng), target), values)
    order = torch.randperm(3, generator=rng)
    turned = replace(target, ids=target.ids[:, order], log_probs=target.log_probs[:, order])
    torch.testing.assert_close(SPARSE[name](student, turned), values)
    torch.testing.assert_close(gradient(values, student).sum(-1), torch.zeros(B, dtype=torch.float64), rtol=0, atol=1e-12)


@each
@each_form
def test_positions_are_rows_of_their_own(rng, name, form):
    """A token's loss must not depend on its neighbours, or masks leak."""
    student, teacher = pair(rng, B, T, V)
    target = kept(form, teacher)
    flat = replace(target, ids=target.ids.flatten(0, 1), log_probs=target.log_probs.flatten(0, 1), rest=target.rest.flatten())
    torch.testing.assert_close(SPARSE[name](student, target), SPARSE[name](student.flatten(0, 1), flat).reshape(B, T))


@each
@each_form
@pytest.mark.parametrize("k", [1, 3, V])
def test_gradients_are_exact_in_float64(rng, name, form, k):
    """The backward pass is written by hand."""
    student, teacher = pair(rng, 2, 2, V)
    target = kept(form, teacher, k, 3.0)
    assert torch.autograd.gradcheck(lambda s: SPARSE[name](s, target, temperature=3.0), (student.requires_grad_(),))


@each
@each_form
@pytest.mark.parametrize("k", [3, V])
def test_second_derivatives_are_exact_too_and_finite_where_logits_are_large(rng, name, form, k):
    """An unrolled step differentiates the gradient; a piece that is cut off there is silently missing."""
    student, teacher = pair(rng, 2, V)
    target = kept(form, teacher, k, 3.0)
    assert torch.autograd.gradgradcheck(lambda s: SPARSE[name](s, target, temperature=3.0), (student.requires_grad_(),))
    large = (torch.tensor([EDGES["huge"]]) / 2).requires_grad_()
    (first,) = torch.autograd.grad(SPARSE[name](large, kept(form, large.detach(), k)).sum(), large, create_graph=True)
    assert gradient(first.square(), large).isfinite().all()


def test_a_renormalised_teacher_is_exact_at_any_temperature(rng):
    """p^(T0 / T), renormalised, is known where the kept classes have all of the mass; so is the whole distribution where all are kept."""
    student, teacher = pair(rng, B, V)
    at_2, at_5 = kept("renormalize", teacher, 3, 2.0), kept("renormalize", teacher, 3, 5.0)
    for name in SPARSE:
        torch.testing.assert_close(SPARSE[name](student, at_2, temperature=5.0), SPARSE[name](student, at_5, temperature=5.0))
        whole = SPARSE[name](student, kept("bucket", teacher, V, 2.0), temperature=5.0)
        torch.testing.assert_close(whole, DENSE[name](student, teacher, temperature=5.0))


# --- the edges


EDGES = {
    "one-hot": [0.0, 0.0, 1e4, 0.0, 0.0, 0.0, 0.0],
    "uniform": [0.0] * 7,
    "huge": [1e4, -1e4, 9.999e3, 0.0, -5.0, 3.0, 1e3],
    "impossible classes": [-INF, 0.5, -INF, 1.5, -INF, -INF, -INF],
}


@each
@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3, V])
@pytest.mark.parametrize("edge", EDGES)
def test_certain_flat_and_impossible_teachers_give_numbers_and_finite_gradients(name, form, dtype, k, edge):
    """0 log 0 is 0; one NaN row ends a run."""
    teacher = torch.tensor([EDGES[edge]] * 3, dtype=dtype)
    target = kept(form, teacher, k)
    for student in ([0.1, -0.2, 0.3, 0.0, 0.5, -1.0, 0.7], [-1e4, 1e4, -1e4, 0.0, 5.0, -3.0, -1e3], [0.0] * 7):
        student = torch.tensor([student] * 3, dtype=dtype).requires_grad_()
        values = SPARSE[name](student, target)
        assert values.isfinite().all()
        assert gradient(values, student).isfinite().all()


@each
@each_form
@pytest.mark.parametrize("k", [1, 3, V])
def test_a_student_that_rules_classes_out_costs_infinity_at_most_never_nan(name, form, k):
    """Infinite where the teacher finds possible what the student does not; the two may also agree on it."""
    student = torch.tensor([[-INF, 0.5, -INF, 1.5, 0.0, 0.2, -INF], [0.3, 0.5, 1.0, 1.5, 0.0, -INF, -INF]], requires_grad=True)
    for row in EDGES.values():
        values = SPARSE[name](student, kept(form, torch.tensor([row] * 2), k))
        assert not values.isnan().any()
        assert not gradient(values, student).isnan().any()
        if "js" in name:
            assert values.isfinite().all()
    agreeing = torch.tensor([[-INF, 0.5, -INF, 1.0, 0.0, 0.4, -INF]] * 2)
    values = SPARSE[name](student[:1], kept(form, agreeing[:1], 4))
    assert values.isfinite().all()
    assert gradient(values, student)[:1].isfinite().all()


@each_tail
def test_a_certain_teacher_by_one_class_is_a_label(rng, tail):
    """The limit that distillation starts from."""
    student, teacher = pair(rng, B, V)
    expected = torch.nn.functional.cross_entropy(student, teacher.argmax(-1), reduction="none")
    for distance in (sparse_kl, sparse_cross_entropy):
        torch.testing.assert_close(distance(student, kept(tail, 1e6 * teacher, 1)), expected)


@each
@each_form
def test_one_class_gives_zero_with_zero_gradient(name, form):
    """Degenerate, not an error."""
    student = torch.tensor([[2.0], [-3.0]], requires_grad=True)
    values = SPARSE[name](student, kept(form, torch.tensor([[5.0], [1.0]]), 1))
    torch.testing.assert_close(values, torch.zeros(2), rtol=0, atol=1e-7)
    assert gradient(values, student).abs().max() < 1e-7


@each
@each_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_students_are_raised(rng, name, form, dtype):
    """In bfloat16 the tail's mass has three digits."""
    student, teacher = (x.to(dtype) for x in pair(rng, B, V))
    values = SPARSE[name](student, kept(form, teacher))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, SPARSE[name](student.float(), kept(form, teacher)))
    assert SPARSE[name](student.float(), kept(form, teacher.double())).dtype == torch.float64


@each
def test_a_students_tail_of_almost_no_mass_keeps_its_digits_in_float32(name):
    """1 minus the kept mass would be 0, and its logarithm the loss."""
    student, teacher = torch.tensor([[40.0, 1.0, 0.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    exact = SPARSE[name](student.double(), kept("bucket", teacher.double(), 1)).item()
    assert exact > 0.01
    assert SPARSE[name](student, kept("bucket", teacher, 1)).item() == pytest.approx(exact, rel=1e-5)


# --- in a Match


DISTANCES = {"kl": soft_targets, "ce": soft_cross_entropy, "js": lambda t: jensen_shannon(0.5, t)}


@pytest.mark.parametrize("name", DISTANCES)
@each_form
@pytest.mark.parametrize("mask", ["tokens", "samples", "weights"])
def test_a_match_hands_sparse_logits_on_and_takes_masks_of_tokens_and_samples(rng, name, form, mask):
    """Padding has no teacher."""
    student, teacher = pair(rng, B, T, V)
    masks = {
        "tokens": torch.rand(B, T, generator=rng) > 0.5,
        "samples": torch.tensor([True, False, True]),
        "weights": torch.rand(B, T, generator=rng, dtype=torch.float64),
    }
    target = kept(form, teacher, K, 2.0)
    loss = Match("logits", by=DISTANCES[name](2.0))
    values = SPARSE[name](student, target, temperature=2.0)
    weights = masks[mask].double()[:, None].expand(B, T) if mask == "samples" else masks[mask].double()
    (term,) = loss.terms({"logits": student}, {"logits": target}, {"mask": masks[mask]})
    assert term.over == "token"
    expected = np.average(values.numpy(), weights=weights.numpy())
    assert loss({"logits": student}, {"logits": target}, {"mask": masks[mask]}).item() == pytest.approx(expected)


def test_a_term_that_reads_features_is_not_troubled_by_sparse_logits_beside_them(rng):
    """The teacher is asked once for what all terms want."""
    own, told = pair(rng, B, 4)
    student, teacher = pair(rng, B, V)
    signals = {"logits": kept("bucket", teacher), "h": told}
    loss = Match("logits", by=soft_targets(1.0)) + Match("h", by=mse())
    expected = sparse_kl(student, signals["logits"]).mean() + (own - told).square().mean()
    torch.testing.assert_close(loss({"logits": student, "h": own}, signals, {}), expected)


def test_a_target_that_says_so_is_given_sparse_logits_and_may_give_them_back(rng):
    """How a user's own rewriting of the teacher takes part."""
    student, teacher = pair(rng, B, V)

    class Renormalised:
        accepts = frozenset({"dense", "top-k"})
        reason = "knows no draws"

        def __call__(self, signals, batch):
            return replace(signals["logits"], tail="renormalize")

    match = Match("logits", by=soft_targets(1.0), target=Renormalised())
    torch.testing.assert_close(
        match({"logits": student}, {"logits": kept("bucket", teacher)}, {}), sparse_kl(student, kept("renormalize", teacher)).mean()
    )
    assert match.refuses("top-k") is None
    with pytest.raises(BadInput, match="term 'logits': the teacher's logits are sampled, but its target knows no draws"):
        match({"logits": student}, {"logits": kept("sampled", teacher)}, {})
    with pytest.raises(BadInput, match="top-k, but mse is computed from all classes"):
        Match("logits", by=mse(), target=Renormalised())({"logits": student}, {"logits": kept("bucket", teacher)}, {})


def test_confidence_weights_come_from_the_likeliest_class_that_top_k_keeps(rng):
    """The largest probability needs no other class."""
    student, teacher = pair(rng, B, V)
    batch = {"y": torch.tensor([0, 6, 2])}
    loss = ConfidenceWeighted()
    torch.testing.assert_close(
        loss({"logits": student}, {"logits": kept("bucket", teacher)}, batch), loss({"logits": student}, {"logits": teacher}, batch)
    )
    with pytest.raises(BadInput, match="whose class may not have been kept"):
        loss({"logits": student}, {"logits": kept("sampled", teacher)}, batch)
    with pytest.raises(BadInput, match="kept at 4; write the cache with --temperature 1"):
        loss({"logits": student}, {"logits": kept("bucket", teacher, K, 4.0)}, batch)


# --- what is refused


def test_what_each_distance_accepts_is_said_and_held_to(rng):
    """A teacher's kept classes read as if they were all of them give a plausible loss."""
    student, teacher = pair(rng, B, V)
    dense_only = {
        "reverse": (soft_targets(1.0, "reverse"), r"soft_targets\(reverse\) is KL\(student \|\| teacher\), which looks where the student"),
        "mse": (mse(), "mse is computed from all classes"),
        "cosine": (cosine(), "cosine is computed from all classes"),
        "probabilities": (probability_cross_entropy(), "probability_cross_entropy is computed from all classes"),
        "own": (Distance(lambda s, t: (s - t).sum(-1)), "distance is computed from all classes"),
        "bare": (lambda s, t: (s - t).sum(-1), r"a bare function is given all classes \(a Distance can say"),
    }
    for form in ("bucket", "sampled"):
        target = kept(form, teacher)
        for by, said in dense_only.values():
            match = Match("logits", by=by)
            assert match.refuses("dense") is None
            assert match.refuses(target.form) is not None
            with pytest.raises(BadInput, match=f"term 'logits': the teacher's logits are {target.form}, but {said}"):
                match({"logits": student}, {"logits": target}, {})
            if isinstance(by, Distance):
                with pytest.raises(BadInput, match=said):
                    by(student, target)
        for by in (soft_targets(1.0), soft_cross_entropy(1.0), jensen_shannon()):
            assert Match("logits", by=by).refuses(target.form) is None
            assert Match("logits", by=by).refuses("unheard of") is not None
        with pytest.raises(BadInput, match="its connector takes all classes"):
            Match("logits", by=soft_targets(1.0), through=regressor())({"logits": student}, {"logits": target}, {})
        with pytest.raises(BadInput, match="its target puts the teacher's values for all classes in another order"):
            Match("logits", by=soft_cross_entropy(), target=permuted_dark())({"logits": student}, {"logits": target}, {})


def test_wrappers_of_an_objective_refuse_what_it_refuses():
    """A weight or a name must not make a term readable."""
    reverse, forward = Match("logits", by=soft_targets(1.0, "reverse")), Match("logits", by=soft_targets(1.0))
    for around in (0.5 * reverse, reverse.named("other"), forward.named("first") + reverse.named("second")):
        assert "soft_targets(reverse)" in around.refuses("top-k")
        assert around.refuses("dense") is None
    assert (0.5 * forward).refuses("sampled") is None


@pytest.mark.parametrize("form", ["bucket", "spread", "sampled"])
@pytest.mark.parametrize("name", DISTANCES)
def test_another_temperature_than_the_kept_one_is_refused_with_both(rng, name, form):
    """The tail's mass at another temperature is not known from its sum."""
    student, teacher = pair(rng, B, V)
    target = kept(form, teacher)
    by = DISTANCES[name](4)
    with pytest.raises(BadInput) as refused:
        Match("logits", by=by)({"logits": student}, {"logits": target}, {})
    said = f"the teacher's {target.form} logits were kept at temperature 1, {by.name} asks for 4; write the cache with --temperature 4"
    assert str(refused.value).startswith(said)
    assert ("renormalize" in str(refused.value)) == (form != "sampled")
    with pytest.raises(BadInput, match="kept at temperature 1, sparse_"):
        SPARSE[name](student, target, temperature=4.0)
    assert by(student, kept(form, teacher, K, 4.0)).isfinite().all()


@pytest.mark.parametrize("form", ["bucket", "spread", "sampled"])
@pytest.mark.parametrize("name", DISTANCES)
def test_a_temperature_that_moves_is_refused_at_its_first_step(rng, name, form):
    """It starts at the right one, and would fail an hour later. Where the kept classes have all of the mass it may move."""
    student, teacher = pair(rng, B, V)
    ramp = linear_ramp(1.0, 4.0)
    ramp.open()
    ramp.value = 1.0
    match = Match("logits", by=DISTANCES[name](ramp))
    with pytest.raises(BadInput, match=r"kept at temperature 1 and cannot be read at another, but its temperature moves \(linear_ramp"):
        match({"logits": student}, {"logits": kept(form, teacher)}, {})
    ramp.value = 3.0
    expected = SPARSE[name](student, kept("renormalize", teacher), temperature=3.0).mean()
    torch.testing.assert_close(match({"logits": student}, {"logits": kept("renormalize", teacher)}, {}), expected)


@each
@each_form
@pytest.mark.parametrize("shape", [(B, V + 1), (B, 1), (1, V), (V,), (B, T, V)])
def test_shapes_that_would_broadcast_are_refused_with_both(name, form, shape):
    """Ids of another vocabulary gather other words."""
    with pytest.raises(ShapeMismatch, match=r"student has shape \(.*the teacher's .* logits \(3, 7\) \(by 2 classes\)"):
        SPARSE[name](torch.zeros(shape), kept(form, torch.zeros(B, V)))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, True])
@each
def test_temperatures_that_are_no_positive_finite_number_are_refused(name, temperature):
    """Also where any positive one would do."""
    with pytest.raises(BadInput, match="positive finite"):
        SPARSE[name](torch.zeros(B, V), kept("renormalize", torch.zeros(B, V)), temperature=temperature)


@pytest.mark.parametrize("piece", [1, V, 3 * V + 2])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_rows_that_are_worked_on_in_pieces_give_the_same_values_and_derivatives(rng, monkeypatch, piece, shape):
    """A large vocabulary must not change what a small one gives."""
    student, teacher = pair(rng, *shape)
    student.requires_grad_()

    def found():
        told = []
        for values in (js_divergence(student, teacher, 0.3, 2.0), sparse_jsd(student, kept("spread", teacher, K, 2.0), 0.3, 2.0)):
            (first,) = torch.autograd.grad(values.sum(), student, create_graph=True)
            told += [values, first, gradient(first.square(), student)]
        return told

    whole = found()
    monkeypatch.setattr("tutelage.objectives.divergences.PIECE", piece)
    for one, other in zip(found(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_sparse_logits_hold_no_more_than_the_students_own(rng):
    """One V-wide tensor is kept for the backward pass: the logits that the student has anyway."""
    student, teacher = pair(rng, B, 101)
    student.requires_grad_()
    wide = []

    def note(saved):
        if saved.shape[-1:] == (101,):
            wide.append(saved.data_ptr())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        for form in FORMS:
            sparse_kl(student, kept(form, teacher))
    assert set(wide) == {student.data_ptr()}
