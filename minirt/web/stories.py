"""What commands tell while somebody looks on, read as they write it (`minirt.explain.story` says how)."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

from cni_plugins.spec.jsontext import loads
from minirt.errors import KernelRefused
from minirt.explain.account import ANSWER, CALL, PROBLEM, RUNTIME, Item
from minirt.explain.story import FORMAT
from minirt.explain.text import FULL, Text
from minirt.state import STORIES

KEPT = 100  # stories; the oldest that have ended make room
_CHUNK = 1 << 20
_DEEPEST = 32  # plugins that call each other
_BESIDE = "process 1"  # what it tells, it tells on its own account
_BIRTH = 5.0  # seconds in which a writer has taken its lock


class Story:
    """One command: its items, each with `lines`, as `--explain=full` prints it, and `at`, seconds since the start.
    Behind an item that `waits` the command itself has nothing to do, as long as a process of the container's runs."""

    def __init__(self, folder: str, name: str) -> None:
        self.id = name
        self.items: list[dict[str, Any]] = []
        self.done = False
        self.containers: list[str] = []
        self._names: dict[str, str] = {}  # as the story itself tells them
        self._verbs: list[str] = []
        self._failed = False
        self._runs = False
        self._head: dict[str, Any] = {}
        self._fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._read = 0  # bytes, up to the end of a line
        self._page = io.StringIO()
        self._text = Text(self._page, FULL, {})

    @property
    def begun(self) -> bool:
        return bool(self._head)

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        if self.done:
            return False
        over = self._over()  # asked first: what a writer writes last is there when it has gone
        before = len(self.items)
        for line in self._new():
            self._take(line)
        if over:
            self.done = True
            os.close(self._fd)
        return over or len(self.items) > before

    def _new(self) -> list[bytes]:
        """The lines that are whole by now; half of one may be taken back yet, when the disk is full."""
        text = b""
        while chunk := os.pread(self._fd, _CHUNK, self._read + len(text)):
            text += chunk
        end = text.rfind(b"\n") + 1
        self._read += end
        return text[:end].splitlines()

    def _over(self) -> bool:
        """Whether nobody writes any more: its writers share a lock, which they take when the file is there."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        state = os.fstat(self._fd)
        if state.st_size or time.time() - state.st_mtime > _BIRTH:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def _take(self, line: bytes) -> None:
        try:
            document = loads(line)
            if not self._head:
                self._head = document if document.get("story") == FORMAT and _instant(document["time"]) else {}
                return
            item = Item(**document["item"])
            if item.level not in range(_DEEPEST):
                return
            lines = self._printed(item)
            self._note(item)
        except Exception:
            return  # cut off by a full disk, or another version's
        waits = item.details.get("waits") is True
        self._runs = waits or (self._runs and item.who == _BESIDE)
        self.items.append({**item.to_json(), "lines": lines, "at": document.get("at", 0), "waits": waits})

    def _printed(self, item: Item) -> list[str]:
        """As --explain=full prints it."""
        self._page.seek(0)
        self._page.truncate()
        self._text.write(item)
        return self._page.getvalue().splitlines()

    def _note(self, item: Item) -> None:
        """What the list of stories says of it."""
        container = item.details.get("id") or (item.details.get("environment") or {}).get("CNI_CONTAINERID")
        if not isinstance(container, str):
            container = ""
        if container and container not in self.containers:
            self.containers.append(container)
        if container and "name" in item.details:
            self._names[container] = str(item.details["name"])
        if item.kind == CALL and item.who == RUNTIME and (verb := item.text.split(" ")[0]) not in self._verbs:
            self._verbs.append(verb)
        if item.kind in (ANSWER, PROBLEM) and item.level == 0:
            self._failed = self._failed or item.kind == PROBLEM

    def to_json(self, named: Callable[[str], str]) -> dict[str, Any]:
        """What the list shows. `named` gives a container's name for its id."""
        return {
            "id": self.id,
            "command": self._head.get("command", ""),
            "container": ", ".join(self._names.get(identity) or named(identity) for identity in self.containers),
            "container_ids": self.containers,
            "time": _instant(self._head.get("time", 0)),
            "done": self.done,
            "runs": self._runs and not self.done,
            "failed": self._failed,
            "verbs": self._verbs,
            "count": len(self.items),
        }


def _instant(seconds: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03}Z"


class Stories:
    """All that has been told since somebody looks on: while this is open, commands tell.

    Raises KernelRefused when the folder cannot be made.
    """

    def __init__(self, folder: str = STORIES) -> None:
        self.folder = folder
        self._found: dict[str, Story] = {}
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelRefused(f"mkdir {folder}", error) from error
        if self._alone():
            self._empty()  # what a killed one has left
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _empty(self) -> None:
        for name in os.listdir(self._fd):
            os.unlink(name, dir_fd=self._fd)

    def close(self) -> None:
        """The last who looks on takes the folder away, and commands tell nobody any more."""
        if self._alone():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._fd)

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        for name in sorted(os.listdir(self._fd)):
            if name not in self._found:
                try:
                    self._found[name] = Story(self.folder, name)
                except OSError:
                    continue  # another who looks on has just made room
        news = [story.look() for story in self._found.values()]  # all of them, not any of them
        return self._make_room() or any(news)

    def _make_room(self) -> bool:
        """Forget those who had nothing to tell, and the oldest."""
        over = [story for story in self._found.values() if story.done]
        forgotten = [story for story in over if not story.begun]
        forgotten += [story for story in over if story.begun][: max(0, len(self._found) - len(forgotten) - KEPT)]
        for story in forgotten:
            del self._found[story.id]
            try:
                os.unlink(story.id, dir_fd=self._fd)
            except FileNotFoundError:
                pass  # another who looks on has done it
        return any(story.begun for story in forgotten)

    def all(self) -> list[Story]:
        """Those who have told something, the newest first."""
        return [story for story in reversed(self._found.values()) if story.begun]
