"""Asking a server, against one on this machine that answers, fails and lies; and dialogues that it answers."""

from __future__ import annotations

import email.utils
import json
import socket
import sys
import threading
import time

import pytest
import torch

pytest.importorskip("httpx2")

from answering_server import answering
from tiny_tokenizers import letters
from tutelage.data import Data
from tutelage.errors import BadInput, Failed
from tutelage.language import from_rows, lessons
from tutelage.language.answered import CUT, EMPTY, answered
from tutelage.language.sampling import Sampling
from tutelage.language.server import KEY, LONGEST, Answer, Server, _asked_to_wait, _opened, _request, ask, check_server, models_of

SECRET = "sk-very-secret-0123"


@pytest.fixture
def there(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with answering() as server:
        yield server


def at(server, **options) -> Server:
    return Server(server.url, "parrot", **{"pause": 0.01, "timeout": 5.0, **options})


def asked(server, what, sampling=Sampling(7), **options):
    return [answer for _, answer in sorted(ask(at(server, **options), what, sampling), key=lambda pair: pair[0])]


def test_texts_and_chats_are_answered(there):
    """The two ends of the protocol, with all that was asked for in the request."""
    chat = (("system", "be loud"), ("user", "hello"))
    found = asked(there, ["abc", chat], Sampling(7, temperature=0.5, top_k=3, top_p=0.9))
    assert found == [Answer("cba", True, 3), Answer("HELLO", True, 3)]
    bodies = {path: body for path, body, _ in there.seen}
    said = {"model": "parrot", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3}
    text, talk = bodies["/v1/completions"], bodies["/v1/chat/completions"]
    assert text.pop("seed") != talk.pop("seed")
    assert text == {**said, "prompt": "abc"}
    assert talk == {**said, "messages": [{"role": "system", "content": "be loud"}, {"role": "user", "content": "hello"}]}
    asked(there, ["abc"])
    assert not {"top_k", "top_p"} & set(there.seen[-1][1])


def test_a_request_has_the_same_seed_each_time_and_another_than_others(there):
    """So that a server that honours it gives what it gave."""
    for seed in (0, 0, 1):
        list(ask(at(there, concurrency=1), ["a", "b"], seed=seed, ids=[5, 6]))
    seeds = [body["seed"] for _, body, _ in there.seen]
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4
    list(ask(at(there), ["b"], seed=0, ids=[6]))
    assert there.seen[-1][1]["seed"] == seeds[1]


def test_no_more_requests_run_at_once_than_were_allowed(there):
    there.delay = 0.05
    assert [a.text for a in asked(there, [str(i) for i in range(12)], concurrency=3)] == [str(i)[::-1] for i in range(12)]
    assert 2 <= there.busiest <= 3


@pytest.mark.parametrize(
    "failure", [(500, {}, "oops"), (503, {}, "loading"), (429, {"Retry-After": "0"}, "slow down"), (200, {}, "{not json")]
)
def test_what_may_pass_is_tried_again(there, failure):
    """A model that is still loading, a busy server, a torn answer."""
    there.fails = lambda number, body: failure if number <= 2 else None
    assert asked(there, ["abc"], retries=2) == [Answer("cba", True, 3)]
    there.seen.clear()
    there.fails = lambda number, body: failure
    said = {500: "status 500, oops", 503: "status 503, loading", 429: "status 429, slow down", 200: "no JSON"}[failure[0]]
    with pytest.raises(Failed, match=rf"gave no answer in 3 tries, the last time: .*{said}") as raised:
        asked(there, ["abc"], retries=2)
    assert len(there.seen) == 3
    assert "\n" not in str(raised.value)


def test_it_waits_twice_as_long_each_time_or_as_long_as_the_server_says(there, monkeypatch):
    """A server that is asked again at once is kept busy by those who wait for it."""
    waited = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds=None: bool(waited.append(seconds)))
    replies = {1: (503, {}, ""), 2: (503, {}, ""), 3: (429, {"Retry-After": "7"}, ""), 4: (429, {"Retry-After": "9999"}, "")}
    server = at(there, retries=4, pause=2.0)
    there.fails = lambda number, body: replies.get(number)
    with _opened(server) as client:
        assert _request(client, server, "POST", "/completions", {"prompt": "ab"}, threading.Event())["choices"][0]["text"] == "ba"
    assert [seconds for seconds in waited if seconds in (2.0, 4.0, 7.0, LONGEST)] == [2.0, 4.0, 7.0, LONGEST]


def test_what_a_server_says_of_waiting_is_read():
    """Seconds, a date, or nonsense; and never a day."""
    assert _asked_to_wait("7", 1.0) == 7
    assert _asked_to_wait("-7", 1.0) == 0
    assert 25 < _asked_to_wait(email.utils.formatdate(time.time() + 30, usegmt=True), 1.0) <= 31
    assert _asked_to_wait("Wed, 21 Oct 2015 07:28:00 GMT", 1.0) == 0
    assert _asked_to_wait("soon", 1.0) == _asked_to_wait(None, 1.0) == _asked_to_wait("", 1.0) == 1.0
    assert LONGEST == 60


def test_an_answer_that_does_not_come_in_time_is_given_up(there):
    there.delay = 0.5
    with pytest.raises(Failed, match=r"gave no answer in 1 try, the last time: no answer within 0\.1 s"):
        asked(there, ["abc"], timeout=0.1, retries=0)


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}/v1", "parrot", retries=1, pause=0.0)
    for act in (lambda: check_server(server), lambda: list(ask(server, ["a"]))):
        with pytest.raises(Failed, match=rf"server http://127.0.0.1:{port}/v1 gave no answer in 2 tries.*is it running"):
            act()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "refuses a request without a key; put one into OPENAI_API_KEY"),
        (403, "refuses a request without a key"),
        (404, r"does not know the model 'parrot' or the address \(status 404: .*ends with the version"),
        (400, "does not take the request"),
        (422, "does not take the request"),
        (302, "does not take the request"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(there, status, said):
    """A wrong key is not right the fifth time."""
    there.fails = lambda number, body: (status, {"Location": "http://127.0.0.1:1/"}, "no\x1b[31m way")
    with pytest.raises(BadInput, match=said) as raised:
        asked(there, ["abc"])
    assert len(there.seen) == 1
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "[]",
        '{"choices": []}',
        '{"choices": [{}]}',
        '{"choices": [{"message": {"content": null}}]}',
        '{"choices": [{"text": 3}]}',
        "null",
    ],
)
def test_an_answer_without_text_is_said_so(there, answer):
    there.fails = lambda number, body: (200, {}, answer)
    with pytest.raises(Failed, match="gave an answer without text"):
        asked(there, ["abc"])


def test_the_key_goes_to_the_server_and_nowhere_else(there, monkeypatch, tmp_path):
    """A run folder is shared, and a message copied."""
    asked(there, ["a"])
    assert "Authorization" not in there.seen[-1][2]
    monkeypatch.setenv(KEY, SECRET)
    asked(there, ["a"])
    assert there.seen[-1][2]["Authorization"] == f"Bearer {SECRET}"
    for status in (401, 500, 400):
        there.fails = lambda number, body, status=status: (status, {}, f"Incorrect API key provided: {SECRET}.")
        with pytest.raises((BadInput, Failed), match=r"Incorrect API key provided: \*\*\*") as raised:
            asked(there, ["a"], retries=0)
        assert SECRET not in str(raised.value)
    there.fails = lambda number, body: None
    answered(chats(), at(there), kept=tmp_path / "kept.jsonl")
    assert SECRET not in (tmp_path / "kept.jsonl").read_text()
    assert SECRET not in repr(at(there))


def test_models_are_listed_and_a_wrong_one_refused(there):
    there.models = ["parrot", "raven"]
    assert models_of(at(there)) == ["parrot", "raven"]
    check_server(at(there))
    with pytest.raises(BadInput, match=r"has no model 'parot'; nearest: 'parrot'; it has parrot, raven"):
        check_server(Server(there.url, "parot"))
    there.models = None  # not all servers list them
    check_server(Server(there.url, "parot"))


def test_a_failure_leaves_nothing_running(there):
    """Else a wrong request would be heard of only when all others had been tried to the end."""
    there.fails = lambda number, body: (400, {}, "bad") if body["prompt"] == "bad" else (503, {}, "busy")
    with pytest.raises(BadInput, match="status 400"):
        asked(there, ["a", "b", "bad", "c"], pause=60.0, retries=9)  # longer than a test may take
    assert len(there.seen) <= 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost:8000"}, "is no address; expected one such as http://localhost:8000/v1"),
        ({"url": "ftp://x/v1"}, "is no address"),
        ({"url": "http://[x"}, "is no address"),
        ({"url": "http://me:pass@x/v1"}, "holds a name or password"),
        ({"model": ""}, "expected the name of a model"),
        ({"timeout": 0}, "timeout=0"),
        ({"retries": -1}, "retries=-1"),
        ({"concurrency": 0}, "concurrency=0"),
    ],
)
def test_what_is_no_server_is_refused(options, said):
    with pytest.raises(BadInput, match=said) as raised:
        Server(**{"url": "http://localhost/v1", "model": "m", **options})
    assert "pass@" not in str(raised.value)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(BadInput, match=r"needs httpx2, which is not installed: pip install 'tutelage\[server\]'"):
        models_of(Server("http://localhost/v1", "m"))


def chats(n: int = 6):
    rows = [{"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": "no"}]} for i in range(n)]
    return from_rows({"train": rows, "validation": rows[:1], "test": rows[:1]}).train


def test_dialogues_are_answered_anew_and_can_be_studied(there, tmp_path):
    found = answered(chats(), at(there), kept=tmp_path / "deep" / "kept.jsonl")
    assert [d.messages for d in found.dialogues] == [(("user", f"say {i}"), ("assistant", f"SAY {i}")) for i in range(6)]
    assert found.ids().tolist() == chats().ids().tolist()
    tokenizer = letters()
    made = lessons(Data(found), tokenizer).train
    batch = made.batch(torch.tensor([2]))
    assert tokenizer.decode(batch["y"][batch["mask"]]) == "SAY 2<|im_end|>"


def test_prompts_are_asked_as_messages_and_running_text_is_refused(there, tmp_path):
    pairs = from_rows([{"prompt": f"p{i}", "response": "x"} for i in range(9)]).train
    assert answered(pairs, at(there), kept=tmp_path / "a").dialogues[0].messages == (
        ("user", pairs.dialogues[0].messages[0][1]),
        ("assistant", pairs.dialogues[0].messages[0][1].upper()),
    )
    texts = from_rows([{"text": f"t{i}"} for i in range(9)]).train
    with pytest.raises(BadInput, match=r"dialogue 1 of .* is running text, which asks nothing"):
        answered(texts, at(there), kept=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_answering_goes_on_where_it_was_stopped(there, tmp_path):
    """Each answer may cost money."""
    kept = tmp_path / "kept.jsonl"
    there.fails = lambda number, body: (400, {}, "bad") if number > 3 else None
    with pytest.raises(BadInput, match="status 400"):
        answered(chats(), at(there, concurrency=1), kept=kept)
    with kept.open("a") as file:
        file.write('{"id": 99, "te')  # killed while it wrote
    there.fails = lambda number, body: None
    there.seen.clear()
    found = answered(chats(), at(there), kept=kept)
    assert len(found) == 6
    assert sum(body is not None for _, body, _ in there.seen) == 3
    there.seen.clear()
    again = answered(chats(), at(there), kept=kept)
    assert there.seen == []
    assert again.fingerprint() == found.fingerprint()
    assert json.loads(kept.read_text().splitlines()[0])["by"] == "parrot"


def test_answers_to_other_questions_are_not_taken(there, tmp_path):
    kept = tmp_path / "kept.jsonl"
    answered(chats(), at(there), kept=kept)
    for other in (
        lambda: answered(chats(5), at(there), kept=kept),
        lambda: answered(chats(), at(there), Sampling(9), kept=kept),
        lambda: answered(chats(), at(there), kept=kept, seed=1),
    ):
        with pytest.raises(BadInput, match="holds answers to other questions"):
            other()
    (tmp_path / "notes").write_text("my notes\nnot yours")
    with pytest.raises(BadInput, match="holds no answers of ours"):
        answered(chats(), at(there), kept=tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "my notes\nnot yours"


def test_answers_that_were_cut_or_are_empty_are_left_out_and_counted(there, tmp_path):
    """A student would learn to stop where the limit was, or to say nothing."""

    def some(number, body):
        said = body["messages"][-1]["content"]
        if said == "say 1":
            return 200, {}, json.dumps({"choices": [{"message": {"content": "long"}, "finish_reason": "length"}]})
        return (200, {}, json.dumps({"choices": [{"message": {"content": " "}, "finish_reason": "stop"}]})) if said == "say 2" else None

    there.fails = some
    found = answered(chats(), at(there), kept=tmp_path / "a")
    assert len(found) == 4
    assert found.dropped == {CUT: 1, EMPTY: 1}
    there.fails, there.finish = (lambda number, body: None), "length"
    with pytest.raises(BadInput, match="none of 6 answers of parrot can be learnt from; the first has an answer that was cut"):
        answered(chats(), at(there), kept=tmp_path / "b")
