"""A server on this machine that speaks OpenAI's protocol, and fails as it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answering(ThreadingHTTPServer):
    """Answers a chat with its last message in capitals, and goes on from a text with it reversed.

    Attributes:
        seen: (path, body, headers) of each request.
        fails: called with the number of the request and its body; gives (status, headers, text), or None to answer.
        busiest: most requests that were answered at once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self.fails: Callable[[int, Any], tuple[int, dict[str, str], str] | None] = lambda number, body: None
        self.models: list[str] | None = ["parrot"]
        self.finish = "stop"
        self.delay = 0.0
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """With the version."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.seen.append((self.path, None, dict(self.headers)))
        if self.server.models is None:
            self.give(404, "no such thing")
        else:
            self.give(200, json.dumps({"data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body, dict(self.headers)))
            number = sum(b is not None for _, b, _ in self.server.seen)
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
        try:
            if self.server.delay:
                time.sleep(self.server.delay)
            failed = self.server.fails(number, body)
            if failed is not None:
                self.give(failed[0], failed[2], failed[1])
            elif self.path.endswith("/chat/completions"):
                message = {"role": "assistant", "content": body["messages"][-1]["content"].upper()}
                self.answer({"message": message})
            else:
                self.answer({"text": body["prompt"][::-1]})
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def answer(self, choice: dict[str, Any]) -> None:
        self.give(200, json.dumps({"choices": [{**choice, "finish_reason": self.server.finish}], "usage": {"completion_tokens": 3}}))

    def give(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        content = text.encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def answering() -> Iterator[Answering]:
    """A server that answers until the block is left."""
    server = Answering()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
