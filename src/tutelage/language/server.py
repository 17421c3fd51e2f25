"""Answers of a model behind an OpenAI-compatible server (vLLM, llama.cpp and others): text is all that it shows of itself.

The key is read from OPENAI_API_KEY and goes into the header of each request, nowhere else: no message, file or run holds it.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tutelage.errors import BadInput, Failed, in_short, nearest, printable
from tutelage.extras import needed
from tutelage.language.sampling import Sampling
from tutelage.randomness import derive

EXTRA = "server"
KEY = "OPENAI_API_KEY"
LONGEST = 60.0
"""Seconds that are waited at most before another try, whatever the server asks for."""
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may do."""

Asked: TypeAlias = "str | Sequence[tuple[str, str]]"
"""A text to be gone on from, or the messages of a chat to be answered: (role, content) in order."""


@dataclass(frozen=True)
class Server:
    """Where a model answers.

    Args:
        url: up to and with the version, such as http://localhost:8000/v1.
        model: as the server calls it.
        timeout: seconds that an answer may take.
        retries: further tries after one that failed in a way that may pass.
        pause: seconds before the first of them; each next waits twice as long, or as long as the server says, at most a minute.
        concurrency: requests at a time.

    Raises:
        BadInput: no address, no model, or a number outside its range.
    """

    url: str
    model: str
    timeout: float = 120.0
    retries: int = 5
    pause: float = 1.0
    concurrency: int = 8

    def __post_init__(self) -> None:
        try:
            place = urlsplit(self.url)
        except ValueError:
            place = urlsplit("")
        if place.scheme not in ("http", "https") or not place.hostname:
            raise BadInput(f"server {printable(self.url)!r} is no address; expected one such as http://localhost:8000/v1")
        if place.username or place.password:
            raise BadInput(f"the address of the server {place.hostname} holds a name or password; give a key in {KEY} instead")
        if not self.model:
            raise BadInput(f"server {self.url}: expected the name of a model; the server lists its own at {self.url.rstrip('/')}/models")
        rules = {"timeout": self.timeout > 0, "retries": self.retries >= 0, "pause": self.pause >= 0, "concurrency": self.concurrency >= 1}
        wrong = next((name for name, holds in rules.items() if not holds), None)
        if wrong is not None:
            raise BadInput(f"server: {wrong}={getattr(self, wrong)!r}; expected a number above 0 (retries and pause may be 0)")


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Args:
        text: the answer.
        ended: whether the model ended it, rather than the limit of tokens.
        tokens: how many it took; None where the server does not say.
    """

    text: str
    ended: bool
    tokens: int | None


def models_of(server: Server) -> list[str]:
    """The models that a server says it has; empty where it lists none.

    Raises:
        BadInput: it refuses the key.
        Failed: it cannot be reached.
    """
    with _opened(server) as client:
        try:
            found = _request(client, server, "GET", "/models", None, threading.Event())
        except _Refused as refused:
            if refused.status in (404, 405, 501):
                return []
            raise
    listed = found.get("data") if isinstance(found, Mapping) else None
    return [str(each["id"]) for each in listed if isinstance(each, Mapping) and "id" in each] if isinstance(listed, list) else []


def check_server(server: Server) -> None:
    """Refuse a server that cannot be reached, or does not have the model, before anything is asked of it.

    Raises:
        BadInput: it refuses the key, or has other models; names the nearest.
        Failed: it cannot be reached.
    """
    listed = models_of(server)
    if listed and server.model not in listed:
        some = ", ".join(printable(name) for name in listed[:5]) + (", ..." if len(listed) > 5 else "")
        raise BadInput(f"server {server.url} has no model {server.model!r}{nearest(server.model, listed)}; it has {some}")


def ask(
    server: Server, asked: Sequence[Asked], sampling: Sampling = Sampling(), *, seed: int = 0, ids: Sequence[int] | None = None
) -> Iterator[tuple[int, Answer]]:
    """Ask a server, several requests at a time.

    Args:
        server: which.
        asked: texts, which go to /completions, and chats, which go to /chat/completions.
        sampling: how it shall write. Each request has a seed of its own; whether one seed gives one answer is up to the server.
        seed: of all of them.
        ids: of what is asked, for the seeds; its places by default.

    Yields:
        The place in `asked`, and the answer, in the order in which answers come; whoever keeps each loses nothing to a later failure.

    Raises:
        BadInput: the key is refused, the model is not known, or the request is not understood; says what the server said.
        Failed: it cannot be reached, or fails again and again, or gives an answer without text.
    """
    names = range(len(asked)) if ids is None else ids
    with _opened(server) as client, concurrent.futures.ThreadPoolExecutor(server.concurrency) as pool:
        waiting: dict[concurrent.futures.Future[Answer], int] = {}
        over = threading.Event()
        places = iter(range(len(asked)))
        try:
            while True:
                # no more are handed in than can run, so that a failure leaves none to be waited for
                while len(waiting) < server.concurrency and (place := next(places, None)) is not None:
                    body = _body(server, asked[place], sampling, derive("server", seed, names[place]) % 2**31)
                    waiting[pool.submit(_answer, client, server, *body, over)] = place
                if not waiting:
                    return
                done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in sorted(done, key=waiting.__getitem__):
                    yield waiting.pop(future), future.result()
        finally:
            over.set()  # requests that are tried again and again end with this one


class _Refused(BadInput):
    """A request that another try would not mend."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _opened(server: Server) -> Any:
    httpx2 = needed("httpx2", EXTRA, f"server {server.url}")
    key = os.environ.get(KEY, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx2.Limits(max_connections=server.concurrency)
    # redirects are not followed: the key is for this server alone
    return httpx2.Client(headers=headers, timeout=server.timeout, limits=limits, follow_redirects=False)


def _body(server: Server, asked: Asked, sampling: Sampling, seed: int) -> tuple[str, dict[str, Any]]:
    """The path and the content of a request."""
    given: dict[str, Any] = {"model": server.model, "max_tokens": sampling.tokens, "temperature": sampling.temperature, "seed": seed}
    given |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
    given |= {"top_k": sampling.top_k} if sampling.top_k else {}  # not of OpenAI's protocol, but of vLLM and llama.cpp
    if isinstance(asked, str):
        return "/completions", {**given, "prompt": asked}
    return "/chat/completions", {**given, "messages": [{"role": role, "content": content} for role, content in asked]}


def _answer(client: Any, server: Server, path: str, body: Mapping[str, Any], over: threading.Event) -> Answer:
    found = _request(client, server, "POST", path, body, over)
    choices = found.get("choices") if isinstance(found, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    text: Any = None
    if isinstance(first, Mapping):
        message = first.get("message")
        text = message.get("content") if isinstance(message, Mapping) else first.get("text")
    if not isinstance(text, str):
        raise Failed(f"server {server.url} gave an answer without text: {_shown(str(found))}; is {server.model!r} a model that writes?")
    assert isinstance(first, Mapping)
    used = found.get("usage")
    tokens = used.get("completion_tokens") if isinstance(used, Mapping) else None
    return Answer(text, first.get("finish_reason") != "length", tokens if isinstance(tokens, int) else None)


def _request(client: Any, server: Server, method: str, path: str, body: Mapping[str, Any] | None, over: threading.Event) -> Any:
    """What the server answers to a request, tried again where that may help, until it is `over`."""
    httpx2 = needed("httpx2", EXTRA, f"server {server.url}")
    last = ""
    for number in range(server.retries + 1):
        wait = server.pause * 2**number
        try:
            response = client.request(method, server.url.rstrip("/") + path, json=body)
            if response.is_success:
                return response.json()
            last = f"status {response.status_code}, {_shown(response.text)}"
            if response.status_code not in AGAIN:
                raise _refusal(server, response.status_code, response.text)
            wait = _asked_to_wait(response.headers.get("Retry-After"), wait)
        except httpx2.TimeoutException:
            last = f"no answer within {server.timeout:g} s"
        except httpx2.TransportError as error:
            last = _shown(str(error)) or type(error).__name__
        except ValueError as error:
            if isinstance(error, BadInput):
                raise
            last = f"an answer that is no JSON: {_shown(response.text)}"
        if number < server.retries and over.wait(min(wait, LONGEST)):
            break
    tries = f"{server.retries + 1} tries" if server.retries else "1 try"
    raise Failed(f"server {server.url} gave no answer in {tries}, the last time: {last}; is it running, and is the address right?")


def _refusal(server: Server, status: int, said: str) -> _Refused:
    if status in (401, 403):
        there = f"the key in {KEY}" if os.environ.get(KEY, "").strip() else f"a request without a key; put one into {KEY}"
        return _Refused(f"server {server.url} refuses {there} (status {status}: {_shown(said)})", status)
    if status == 404:
        return _Refused(
            f"server {server.url} does not know the model {server.model!r} or the address (status 404: {_shown(said)}); "
            "the address ends with the version, such as /v1",
            status,
        )
    return _Refused(f"server {server.url} does not take the request (status {status}: {_shown(said)})", status)


def _asked_to_wait(said: str | None, otherwise: float) -> float:
    """The seconds that a Retry-After header asks for: a number, or a date."""
    if not said:
        return otherwise
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return otherwise


def _shown(said: str) -> str:
    """What a server said, in short, without the key: some repeat it."""
    key = os.environ.get(KEY, "").strip()
    return printable(in_short(Exception(said.replace(key, "***") if key else said)))
