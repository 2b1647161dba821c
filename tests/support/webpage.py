"""The page of `minirt serve` in a browser, as a person has it: what is shown, and what can be done with it.

A browser takes seconds to start, so it and its machine serve a whole file of tests:

    @pytest.fixture(scope="module")                            @pytest.fixture(scope="module")
    def machine(request): yield from webpage.machine(request)  def browser(machine, tmp_path_factory): …
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import leftovers
from support.browser import Browser
from support.machine import Machine

# The picture's shadow tree, for JavaScript.
GRAPH = "document.querySelector('#picture > div').shadowRoot"


def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine that many tests share: what all of them together leave there is asked for once."""
    failed = request.session.testsfailed
    with Machine() as private:
        private.leaves(*leftovers.SHARED, "directory /etc/cni/net.d")
        yield private
        if request.session.testsfailed > failed:
            private.patience = 0.0  # a test that failed is to blame for enough
            private.leaves("*")
        left = private.leftovers()
    assert left == [], "left behind"


class Page:
    """The page at `url` in `browser`."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url

    # --- hands -------------------------------------------------------------------------------------------------------

    def open(self, place: str = "#/") -> None:
        """As from a link, in a new window; until there is something to see."""
        self.browser.go("about:blank")
        self.browser.go(f"{self.url}{place}")
        self.until("the page is live", lambda: self.state == "live")
        self.until("the graph is drawn", lambda: self.drawn("return g.querySelector('svg') !== null"))

    def leave(self) -> None:
        self.browser.go("about:blank")

    def look(self, place: str) -> None:
        """Follow a link of the page's own."""
        self.browser.script("location.hash = arguments[0]", place)

    def choose(self, name: str) -> None:
        """Click a container in the graph."""
        named = "e => e.querySelector('.title').textContent === arguments[0]"
        self.browser.click_on(f"return [...{GRAPH}.querySelectorAll('g.container')].find({named})", name)

    def story(self, words: str) -> None:
        """Click the newest story in the list whose line has these words, and wait until it is there."""
        found = "return [...document.querySelectorAll('#stories a')].find(e => e.textContent.includes(arguments[0]))"
        self.until(f"a story of {words}", lambda: self.browser.script(found, words))
        self.browser.click_on(found, words)
        self.until("its steps are there", lambda: self.steps > 0)

    def press(self, *keys: str) -> None:
        self.browser.press(*keys)

    def slide(self, to: int) -> None:
        """Move the slider, as a pointer that drags it does."""
        moved = (
            "const s = document.getElementById('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
        )
        self.browser.script(moved, to)

    # --- eyes --------------------------------------------------------------------------------------------------------

    def until(self, what: str, true: Callable[[], Any], patience: float = 10.0) -> Any:
        return self.browser.until(what, true, patience)

    def comes(self, selector: str, words: str, patience: float = 10.0) -> None:
        """Wait until what is seen there has these words."""
        self.until(f"{selector} says {words!r}", lambda: words in self.browser.text(selector), patience)

    def drawn(self, script: str, *arguments: Any) -> Any:
        """What JavaScript finds in the graph, `g`."""
        return self.browser.script(f"const g = {GRAPH}; {script}", *arguments)

    @property
    def state(self) -> str:
        """What the page says of its connection."""
        return self.browser.text("#connection")

    @property
    def address(self) -> str:
        """What is looked at, as the address says it, when it has come to rest."""
        time.sleep(0.2)
        return str(self.browser.script("return location.hash"))

    @property
    def containers(self) -> list[str]:
        """The names of the containers in the graph."""
        names: list[str] = self.drawn("return [...g.querySelectorAll('.container .title')].map(e => e.textContent)")
        return names

    @property
    def facts(self) -> str:
        return self.browser.text("#facts")

    @property
    def place(self) -> int:
        """The step that is shown, counted as the player counts; 0 for the whole story."""
        return int(self.browser.text("#place").partition("/")[0] or 0)

    @property
    def steps(self) -> int:
        return int(self.browser.text("#place").partition("/")[2] or 0)

    @property
    def step(self) -> str:
        """What the card says of the step that is shown."""
        return self.browser.text("#step")

    @property
    def account(self) -> list[str]:
        """The account, line by line, as it would be copied."""
        return "\n".join(self.browser.texts("#account pre")).split("\n")

    @property
    def lanes(self) -> list[str]:
        """Who takes part, from left to right."""
        return self.browser.texts("#sequence .lane")
