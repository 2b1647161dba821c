"""A running `minirt serve`, as a browser has it: asked over HTTP, its events read as the HTML standard says."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from support.command import Command


class Events:
    """The stream of events. `until` reads on until one fits."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200 and self._answer.getheader("Content-Type") == "text/event-stream"

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()
        self._connection.close()

    def next(self) -> tuple[str, Any]:
        """The next event: its name and its data."""
        name = ""
        while line := self._answer.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)
        raise AssertionError("the stream has ended")

    def until(self, wanted: str, fits: Callable[[Any], Any] = lambda _data: True, seconds: float = 10.0) -> Any:
        """The data of the first event called `wanted` that fits."""
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            name, data = self.next()
            if name == wanted and fits(last := data):
                return data
        raise AssertionError(f"no such {wanted} within {seconds} s; the last: {last}")


class Served:
    """`minirt serve` at a port, else at a free one, until it is ended."""

    def __init__(self, minirt: Command, *words: str, port: int = 0, **options: Any) -> None:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = minirt.start("serve", "--port", str(port), *words, **options)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.process.communicate()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def events(self) -> Events:
        return Events(self.port)

    def stories(self, fits: Callable[[list[dict[str, Any]]], Any] = bool) -> list[dict[str, Any]]:
        """The list of stories, newest first, as soon as it fits."""
        with self.events() as events:
            found: list[dict[str, Any]] = events.until("stories", fits)
            return found

    def story(self, command: str) -> dict[str, Any]:
        """The newest story of a command that has ended, whole."""

        def ended(stories: list[dict[str, Any]]) -> bool:
            return any(story["command"] == command and story["done"] for story in stories)

        newest = next(story for story in self.stories(ended) if story["command"] == command)
        answer, body = self.ask(f"/stories/{newest['id']}")
        assert answer.status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode
