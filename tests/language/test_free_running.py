"""Numbers of a model's own text, against loops and against all texts, enumerated."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from small_texts import SIZE, net, sharp, texts
from tutelage import Frozen, Model
from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.language.free_running import Answers, answers, distinct, ended, measure_own_text, repetition, side_by_side
from tutelage.language.sampling import Sampling
from tutelage.students import gpt

S = Sampling(4)


def test_numbers_equal_those_of_a_loop_over_tokens():
    """The prompt must not count, nor the padding; and the two directions must not be swapped."""
    model, teacher = sharp(4), sharp(5)
    written = answers(model, texts().train, S, prompt=2)
    sums, count = dict.fromkeys(("teacher_nll", "own_nll", "forward_kl", "reverse_kl", "entropy", "agreement"), 0.0), 0
    for prompt, response in zip(written.prompts, written.responses, strict=True):
        for number, token in enumerate(response.tolist()):
            with torch.no_grad():
                before = torch.cat([prompt, response[:number]])[None]
                log_q, log_p = (m.module(before)[0, -1].double().log_softmax(-1) for m in (model, teacher))
            sums["teacher_nll"] -= float(log_p[token])
            sums["own_nll"] -= float(log_q[token])
            sums["forward_kl"] += float((log_p.exp() * (log_p - log_q)).sum())
            sums["reverse_kl"] += float((log_q.exp() * (log_q - log_p)).sum())
            sums["entropy"] -= float((log_q.exp() * log_q).sum())
            sums["agreement"] += float(log_q.argmax() == log_p.argmax())
            count += 1
    expected = {name: value / count for name, value in sums.items()}
    expected["sequence_kl"] = expected["teacher_nll"] - expected["own_nll"]
    for judge in (teacher, Frozen(teacher)):
        assert measure_own_text(model, judge, written) == pytest.approx(expected, rel=1e-4)
    assert measure_own_text(model, teacher, written, masked=False) == pytest.approx(expected, rel=1e-4)


def test_the_difference_of_likelihoods_estimates_the_divergence_of_whole_texts():
    """The stated meaning, against all texts of two tokens."""
    model, teacher = (Model(lambda: gpt(classes=3, width=4, depth=1, heads=1, context=3), seed=s) for s in (1, 2))
    rows = torch.tensor([[0, *pair] for pair in itertools.product(range(3), repeat=2)])
    with torch.no_grad():
        log_q, log_p = (m.module(rows).double().log_softmax(-1)[:, :2].gather(2, rows[:, 1:, None]).sum((1, 2)) for m in (model, teacher))
    assert float(log_q.exp().sum()) == pytest.approx(1)
    exact = float((log_q.exp() * (log_q - log_p)).sum()) / 2
    table = Table({"input_ids": torch.zeros(4000, 2, dtype=torch.int64)})
    written = answers(model, table, Sampling(2), prompt=1, at_once=4000)
    spread = float((log_q - log_p).std()) / 2
    assert exact > 0.02
    assert measure_own_text(model, teacher, written)["sequence_kl"] == pytest.approx(exact, abs=4 * spread / math.sqrt(4000))


def test_a_model_is_not_apart_from_itself():
    model = sharp()
    found = measure_own_text(model, sharp(), answers(model, texts().train, S, prompt=2))
    assert (found["sequence_kl"], found["forward_kl"], found["reverse_kl"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert found["agreement"] == 1


def test_models_are_asked_about_the_same_prompts_by_the_same_draws():
    """So that what differs is theirs."""
    source = texts().train
    first, again = (answers(sharp(), source, S, prompt=2, at_once=n) for n in (3, 50))
    other = answers(sharp(), source, S, prompt=2, seed=1)
    assert all(map(torch.equal, first.responses, again.responses))
    assert not all(map(torch.equal, first.responses, other.responses))
    some = answers(sharp(), source, S, samples=3, prompt=2)
    assert some.ids.tolist() == [0, SIZE // 3, 2 * SIZE // 3]
    assert torch.equal(some.responses[1], first.responses[SIZE // 3])
    assert answers(sharp(), source, S, samples=99, prompt=2).ids.tolist() == list(range(SIZE))


def tokens(*rows):
    return [torch.tensor(row) for row in rows]


def test_repetition_is_the_share_of_what_came_before():
    assert repetition(tokens([1, 2, 3, 4]), 2) == 0
    assert repetition(tokens([1, 1, 1, 1, 1]), 2) == pytest.approx(3 / 4)
    assert repetition(tokens([1, 2, 1, 2, 1]), 2) == pytest.approx(2 / 4)
    assert repetition(tokens([1, 1, 1], [1, 2, 3], [7]), 2) == pytest.approx((1 / 2 + 0) / 2)  # the last has no pair
    assert repetition(tokens([1, 2], [1, 2]), 2) == 0  # what others wrote does not count
    assert repetition(tokens([1], [2, 3]), 4) is None


def test_distinct_counts_over_all_responses():
    assert distinct(tokens([1, 2, 3], [1, 2, 4]), 2) == pytest.approx(3 / 4)
    assert distinct(tokens([1, 2, 3], [1, 2, 4]), 1) == pytest.approx(4 / 6)
    assert distinct(tokens([1]), 2) is None


def test_ended_counts_responses_whose_last_token_is_a_stop():
    assert ended(tokens([1, 9], [9, 1], [2, 3, 8]), {8, 9}) == pytest.approx(2 / 3)


def test_texts_stand_side_by_side():
    source = texts().train
    written = {name: answers(model, source, S, prompt=1) for name, model in (("teacher", sharp()), ("student", Model(net)))}
    rows = side_by_side(written, lambda ids: " ".join(map(str, ids)), samples=2)
    assert [row["id"] for row in rows] == [0, SIZE // 2]
    assert list(rows[0]["responses"]) == ["teacher", "student"]
    assert rows[1]["prompt"] == str(int(source.batch(torch.tensor([SIZE // 2]))["input_ids"][0, 0]))
    assert rows[0]["responses"]["student"].split() == [str(t) for t in written["student"].responses[0].tolist()]


def test_what_cannot_be_compared_is_refused():
    one = Answers(tokens([1]), tokens([2]), torch.tensor([0]))
    for other in (
        Answers(tokens([2]), tokens([2]), torch.tensor([0])),
        Answers(tokens([1]), tokens([2]), torch.tensor([5])),
        Answers(tokens([1], [1]), tokens([2], [2]), torch.tensor([0, 1])),
    ):
        with pytest.raises(BadInput, match="b wrote on from other prompts than a"):
            side_by_side({"a": one, "b": other}, str)
    with pytest.raises(BadInput, match="0 models"):
        side_by_side({}, str)
    with pytest.raises(BadInput, match="samples=0"):
        answers(sharp(), texts().train, samples=0)
    with pytest.raises(BadInput, match="n=0"):
        repetition(tokens([1]), 0)
