"""What there is to show now. The lookout writes it, readers wait at it for news.

Nothing is queued: a reader takes what has changed since the last look, so that a slow one misses what was between,
holds nobody up and costs no memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minirt.web.stories import Story

HEARTBEAT = 15.0  # seconds after which a reader is given nothing, so that it shows whether they are still there


class Board:
    """`wake` is called when somebody begins to read: until then nobody looks."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._readers = 0
        self._picture = ""
        self._list = "[]"
        self._stories: dict[str, Story] = {}
        self._named: Callable[[str], str] = str
        self._ended = False

    # --- for the lookout ---------------------------------------------------------------------------------------------

    @property
    def read(self) -> bool:
        """Whether anybody reads."""
        return self._readers > 0

    def show(self, picture: dict[str, Any]) -> None:
        self._put(_picture=json.dumps(picture))

    def tell(self, stories: list[Story], named: Callable[[str], str]) -> None:
        """`stories` have grown, or their names are known."""
        self._put(
            _stories={story.id: story for story in stories},
            _list=json.dumps([story.to_json(named) for story in stories]),
            _named=named,
        )

    def end(self, patience: float = 1.0) -> None:
        """Tell all readers that there will be no more, and wait until they have been told."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._readers, patience)

    def _put(self, **values: Any) -> None:
        with self._changed:
            self.__dict__.update(values)
            self._changed.notify_all()

    # --- for readers -------------------------------------------------------------------------------------------------

    def story(self, identity: str) -> dict[str, Any] | None:
        """One story, whole."""
        with self._changed:
            story = self._stories.get(identity)
            return {**story.to_json(self._named), "items": story.items[:]} if story else None

    def follow(self) -> Iterator[list[tuple[str, str]]]:
        """For one reader: events (name, JSON) that bring them up to date, again and again; none after a silence."""
        reader = _Reader()
        with self._changed:
            self._readers += 1
            if self._readers == 1:
                self._picture = ""  # nobody has looked for a while
            reader.skip(self._stories.values())
        self._wake()
        try:
            while not self._ended:
                yield self._wait(reader)
            yield [("ended", "{}")]
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def _wait(self, reader: _Reader) -> list[tuple[str, str]]:
        with self._changed:
            if not (events := [*self._news(reader)]) and not self._ended:
                self._changed.wait(HEARTBEAT)
                events = [*self._news(reader)]
            return events

    def _news(self, reader: _Reader) -> Iterator[tuple[str, str]]:
        if self._picture != reader.picture and self._picture:
            reader.picture = self._picture
            yield "picture", self._picture
        if self._list != reader.list:
            reader.list = self._list
            yield "stories", self._list
        yield from (("items", json.dumps(growth)) for growth in reader.growth(self._stories.values()))


class _Reader:
    """What one reader has been told."""

    def __init__(self) -> None:
        self.picture = self.list = ""
        self._told: dict[str, tuple[int, bool]] = {}

    def skip(self, stories: Iterable[Story]) -> None:
        """What was told before they came, they ask for."""
        self._told = {story.id: (len(story.items), story.done) for story in stories}

    def growth(self, stories: Iterable[Story]) -> Iterator[dict[str, Any]]:
        for story in stories:
            done = story.done  # asked first: it is written while we read
            now = len(story.items), done
            before = self._told.get(story.id, (0, False))
            if now != before:
                self._told[story.id] = now
                items = story.items[before[0] : now[0]]
                yield {"story": story.id, "from": before[0], "items": items, "done": done}
