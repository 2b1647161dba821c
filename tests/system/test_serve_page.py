"""The page of `minirt serve` as a person has it: in a browser, with clicks and keys, while commands are at work.

What the server does is in test_serve.py, how the page looks in test_serve_looks.py.
"""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import webpage
from support.browser import Browser
from support.command import NETWORKS, Command, bridge, eventually
from support.machine import Machine
from support.served import Served
from support.webpage import Page

STORIES = Path("/run/minirt/stories")
MARKUP = '<img src=x onerror="window.hit=1">'


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from webpage.machine(request)


@pytest.fixture(scope="module")
def browser(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:  # noqa: ARG001 - in there
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.screen(1280, 800)
        yield browser


@pytest.fixture
def served(minirt: Command) -> Iterator[Served]:
    server = Served(minirt)
    yield server
    server.end()
    for path in NETWORKS.glob("*"):
        path.unlink()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, opened; whatever is done with it, the console has nothing to say."""
    browser.screen(1280, 800)
    browser.log()
    page = Page(browser, served.url)
    page.open()
    yield page
    said = browser.log()
    page.leave()
    assert said == []


def start(minirt: Command, name: str, *words: str) -> str:
    return minirt.ok("run", "-d", "-q", "--name", name, *words, "host", "sleep", "60")


# --- the graph -------------------------------------------------------------------------------------------------------


def test_a_container_is_seen_to_come_to_stop_and_to_go_without_a_reload(page: Page, minirt: Command) -> None:
    page.browser.script("window.never = 'reloaded'")
    assert page.containers == []
    start(minirt, "web", "-p", "8080:80")
    page.until("it is drawn", lambda: page.containers == ["web"])
    assert page.browser.text("#changed") == "container web has come"
    assert "container web has come" in page.browser.text("#said"), "told to those who hear the page"
    marked = "return [...g.querySelectorAll('.mark')].map(e => e.parentNode.querySelector('.title').textContent)"
    page.until("it is marked", lambda: "web" in page.drawn(marked))
    assert any(minirt.address("web") in line for line in page.drawn("return g.textContent.split('\\n')"))
    page.comes("#containers", f"web\nrunning\n{minirt.address('web')}")
    minirt.ok("stop", "-t", "0", "web")
    page.comes("#containers", "exited (137)")
    minirt.ok("rm", "web")
    page.comes("#containers", "No container is attached")
    assert page.browser.text("#changed") == "container web has gone"
    page.until("it is gone", lambda: page.containers == [])
    assert page.browser.script("return window.never") == "reloaded"


def test_a_container_in_the_graph_leads_to_its_facts_and_these_to_its_stories(page: Page, minirt: Command) -> None:
    identity = start(minirt, "web", "-p", "8080:80")
    start(minirt, "other")
    page.until("both are drawn", lambda: sorted(page.containers) == ["other", "web"])
    page.choose("web")
    page.comes("#facts", "web\nrunning")
    assert page.address == f"#/container/{identity}"
    (link,) = json.loads(minirt.machine.text("ip", "-n", identity, "-j", "addr", "show", "eth0"))
    address = minirt.address("web")
    for fact in (
        "sleep 60",
        f"{address}/20",
        link["address"],
        f"8080/tcp → {address}:80",
        "network minirt",
        "minirt run",
    ):
        assert fact in page.facts, fact
    chosen = "return [...g.querySelectorAll('[aria-current] .title')].map(e => e.textContent)"
    assert page.drawn(chosen) == ["web"]
    assert page.browser.texts("#containers [aria-current] b") == ["web"]
    page.browser.click("#facts .rows a")
    page.comes("#story-title", "minirt run web")
    assert page.lanes == ["runtime", "bridge", "host-local", "portmap", "kernel"]
    page.press("escape")
    page.until("the overview is back", lambda: page.browser.text("#containers"))
    assert (page.address, page.facts) == ("#/", "")
    page.drawn("g.querySelector('.container').focus()")
    page.press("enter")
    page.until("the keyboard leads there, too", lambda: page.facts)
    minirt.ok("rm", "-f", "web", "other")
    page.comes("#facts", "gone")


def test_a_container_of_before_says_that_nobody_watched_it(minirt: Command, browser: Browser) -> None:
    identity = start(minirt, "old")
    served = Served(minirt)
    page = Page(browser, served.url)
    page.open(f"#/container/{identity}")
    page.comes("#facts", "started before this page was served")
    assert "minirt inspect --namespaces old" in page.facts
    page.leave()
    minirt.ok("rm", "-f", "old")
    assert served.end() == 0


def test_an_empty_host_says_what_to_type(page: Page, minirt: Command) -> None:
    commands = page.browser.texts(".typed code")
    assert "minirt run -d --name web -p 8080:80 host sleep 600" in commands
    copied = "return document.querySelector('.typed .copy').dataset.copies"
    assert page.browser.script(copied) == commands[0]
    page.browser.click(".typed .copy")
    page.comes(".typed .copy", "Copied")
    minirt.ok(*commands[0].split()[1:])
    page.until("what was copied works", lambda: page.containers == ["web"])
    minirt.ok("rm", "-f", "web")


# --- a story ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(page: Page, minirt: Command) -> Page:
    """The page at a story that has ended."""
    minirt.ok("run", "--rm", "-q", "--name", "web", "host", "true")
    page.story("minirt run")
    page.until("it has ended", lambda: not page.browser.texts("#story-meta .badge"))
    return page


def test_a_story_is_stepped_through_by_buttons(told: Page) -> None:
    steps = told.steps
    assert told.place == 0 and "The whole story" in told.step and steps > 20
    places = []
    for button in ("next", "next", "back", "last", "back", "first"):
        told.browser.click(f"#{button}")
        places.append(told.place)
    assert places == [1, 2, 1, steps, steps - 1, 1]
    assert told.step.startswith(f"runtime\nstep 1 of {steps}")
    ends = "return ['first', 'back', 'next', 'last'].filter(id => document.getElementById(id).disabled)"
    assert told.browser.script(ends) == ["first", "back"]
    told.browser.click("#last")
    assert told.browser.script(ends) == ["next", "last"]


def test_a_story_is_stepped_through_by_keys_by_the_slider_and_by_what_is_clicked(told: Page) -> None:
    steps, places = told.steps, []
    for key in ("right", "right", "right", "left", "end", "right", "home", "left"):
        told.press(key)
        places.append(told.place)
    assert places == [1, 2, 3, 2, steps, steps, 1, 1]
    told.slide(7)
    assert told.place == 7
    told.browser.click("#sequence [data-step='5']")
    assert told.place == 5
    told.browser.click("#account li:nth-child(3)")
    assert told.place == 3
    current = "return [...document.querySelectorAll('#account .current, #sequence .current')].map(e => e.dataset.step)"
    assert told.browser.script(current) == ["3", "3"], "diagram and account stand at the same step"
    assert "ip netns add" in told.step and "a network namespace" in told.step.lower(), "what is done, and why"


def test_a_story_plays_by_itself_until_it_is_paused(told: Page) -> None:
    told.press("space")
    told.until("it plays", lambda: told.place == 2)
    assert told.browser.script("return document.getElementById('play').getAttribute('aria-label')") == "Pause"
    told.press("space")
    time.sleep(2)
    assert told.place == 2
    told.press("end")
    told.browser.script("document.getElementById('story-title').focus()")
    told.press("left", "space")
    told.until("it ends at the last step", lambda: told.place == told.steps)
    told.until("and plays no more", lambda: told.browser.script("return play.dataset.playing") == "false")


def test_the_address_is_that_of_the_step_and_leads_there_again(told: Page) -> None:
    told.slide(9)
    step, address = told.step, told.address
    assert address.endswith("/9") and "step 9 of" in step
    told.browser.reload()
    told.until("the step is there after a reload", lambda: told.step == step)
    told.open(address)
    told.until("and for whoever is given the link", lambda: told.step == step)
    told.look(address.removesuffix("9") + "4")
    told.until("and for whoever changes it", lambda: "step 4 of" in told.step)
    told.look("#/story/nothing")
    told.comes("#story-title", "A story that is not kept any more")
    assert "Failed to load resource" in "".join(told.browser.log()), "by the browser itself, of the answer 404"


def test_whoever_leaves_a_story_just_after_a_step_has_left_it(told: Page) -> None:
    """The address is written a moment after the step: here when a link has been followed, and the page not yet heard
    of it."""
    told.browser.script(
        """const later = [], real = window.setTimeout;
        window.setTimeout = (what) => later.push(what);
        document.getElementById('next').click();
        window.setTimeout = real;
        location.hash = '#/';
        for (const what of later) what();"""
    )
    told.until("the overview is there", lambda: told.browser.text("#containers"))
    assert told.address == "#/"


def test_the_account_is_what_explain_prints_to_the_letter_and_the_lanes_are_who_takes_part(
    page: Page, minirt: Command
) -> None:
    minirt.network("lab", bridge("cni0", "10.9.0.0/24"))
    done = minirt("run", "--rm", "-q", "--network", "lab", "--explain=full", "host", "true")
    page.story("DEL")
    page.comes("#fold", "with process 1")
    assert page.lanes == ["runtime", "bridge", "host-local", "kernel"]
    page.browser.click("#fold input")
    assert page.account == done.stderr.splitlines()
    assert {*page.lanes} == {"runtime", "process 1", "bridge", "host-local", "kernel"}


def test_process_1_is_a_line_until_it_is_asked_for(told: Page) -> None:
    steps = told.steps
    (line,) = told.browser.texts("#sequence .folded text")
    beside = int("".join(filter(str.isdigit, line.partition("show")[2])))
    assert line.startswith("process 1 prepares the container") and beside > 10
    assert f"with process 1 ({beside})" in told.browser.text(
        "#fold"
    ) and f"{steps + beside} steps" in told.browser.text("#story")
    told.browser.click("#sequence .folded")
    assert told.steps == steps + beside and "process 1" in told.lanes
    assert any("mount" in line for line in told.browser.texts("#sequence .row text"))
    told.browser.click("#fold input")
    assert told.steps == steps and "process 1" not in told.lanes


def test_a_story_grows_while_it_is_watched(page: Page, minirt: Command) -> None:
    minirt.start("run", "-q", "--rm", "--name", "web", "host", "sleep", "1.5")
    page.comes("#now", "it runs")
    assert "now" not in page.browser.text("#now"), "ADD has ended"
    assert page.browser.texts("#stories .end") == ["runs"]
    page.browser.click("#now")
    page.comes("#story-meta", "runs")
    page.press("end")
    steps = page.steps
    assert page.browser.texts("#story-title .badge") == ["ADD"] and page.place == steps > 0
    page.comes("#story-title", "DEL")
    page.until("it has ended", lambda: not page.browser.texts("#story-meta .badge"))
    assert page.steps > steps and page.place == page.steps, "whoever stood at its end, stands there still"
    meta = re.search(r"in ([\d.]+) (m?s), over ([\d.]+) s at", page.browser.text("#story-meta"))
    assert meta, page.browser.text("#story-meta")
    assert float(meta[3]) > 1.5 > float(meta[1]) / (1000 if meta[2] == "ms" else 1), "what it waited is not counted"
    page.look("#/")
    page.comes("#now", "told in")


def test_a_story_that_is_told_while_another_only_runs_is_the_one_that_happens(page: Page, minirt: Command) -> None:
    minirt.start("run", "-q", "--rm", "--name", "long", "host", "sleep", "600")
    page.comes("#now", "minirt run long: ADD, told in")
    minirt.ok("run", "-q", "--rm", "--name", "short", "host", "true")
    page.comes("#now", "minirt run short: ADD and DEL, told in")
    minirt.ok("stop", "-t", "0", "long")
    page.comes("#containers", "No container is attached")


def test_a_failure_says_who_failed_and_why_and_leads_there(page: Page, minirt: Command) -> None:
    start(minirt, "web", "-p", "8080:80")
    minirt.fails(125, "run", "--rm", "-q", "--name", "late", "-p", "8080:80", "host", "true")
    page.comes("#now", "minirt run late: ADD and DEL, failed")
    page.comes("#stories", "failed")
    page.story("late")
    page.comes("#story-problem", "portmap failed: error 100: host port 8080/tcp is taken by container")
    page.browser.click("#story-problem a")
    page.until("its step is shown", lambda: "host port 8080/tcp is taken" in page.step)
    assert page.step.split()[:3] == ["portmap", "→", "runtime"]
    assert page.browser.script("return document.querySelector('#sequence .current').matches('.problem')")
    minirt.ok("rm", "-f", "web")


def test_of_a_foreign_plugin_is_shown_what_it_has_changed(
    page: Page, minirt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", "/usr/lib/cni")
    minirt.network("go", bridge("cni9", "10.9.9.0/24"))
    minirt.ok("run", "--rm", "-q", "--network", "go", "host", "true")
    page.story("minirt run")
    assert page.lanes[:2] == ["runtime", "bridge"]
    labels = page.browser.texts("#sequence .row text")
    assert any("10.9.9.1/24" in label for label in labels), labels


# --- the connection --------------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_is_missed_and_found_again(browser: Browser, minirt: Command) -> None:
    first = Served(minirt)
    page = Page(browser, first.url)
    page.open()
    start(minirt, "web")
    page.until("it is drawn", lambda: page.containers == ["web"])
    first.end(signal.SIGKILL)
    page.until("it is missed", lambda: page.state == "reconnecting")
    assert not page.browser.text("#stopped")
    page.until("it is given up", lambda: page.state == "stopped")
    assert "minirt serve does not answer" in page.browser.text("#stopped")
    assert page.containers == ["web"], "what was seen last stays"
    minirt.ok("rm", "-f", "web")
    ended = Served(minirt, port=first.port)
    page.until("the next is found", lambda: page.state == "live" and not page.browser.text("#stopped"))
    assert ended.end() == 0
    page.until("it has said goodbye", lambda: page.state == "ended", patience=2)
    assert "minirt serve has ended. What is shown is as it was at" in page.browser.text("#stopped")
    time.sleep(7)
    assert page.state == "ended", "and that stays so"
    second = Served(minirt, port=first.port)
    page.until("the next is found", lambda: page.state == "live" and not page.browser.text("#stopped"))
    page.until("it is up to date", lambda: page.containers == [])
    start(minirt, "late")
    page.until("and stays so", lambda: page.containers == ["late"])
    minirt.ok("rm", "-f", "late")
    said = browser.log()
    assert said and all("/events - Failed to load resource: net::ERR_" in line for line in said), (
        "by the browser itself"
    )
    page.leave()
    assert second.end() == 0


# --- what it is trusted with -----------------------------------------------------------------------------------------


def test_the_browser_asks_nobody_else_and_would_not_if_it_was_told_to(page: Page, minirt: Command) -> None:
    page.browser.requests()
    page.open()
    minirt.ok("run", "--rm", "-q", "host", "true")
    page.story("minirt run")
    asked = page.browser.requests()
    assert {f"{page.url}{name}" for name in ("", "app.js", "style.css", "icon.svg", "events")} <= set(asked)
    assert [url for url in asked if not url.startswith((page.url, "data:"))] == []
    other = socket.create_server(("127.0.0.1", 0))
    refused = page.browser.script(
        """window.refused = [];
        addEventListener('securitypolicyviolation', e => window.refused.push(e.effectiveDirective));
        const image = new Image(); image.src = arguments[0] + 'icon.svg';
        const script = document.createElement('script'); script.textContent = 'window.hit = 1';
        document.body.append(image, script);
        return fetch(arguments[0]).then(() => 'came', () => 'refused')""",
        f"http://127.0.0.1:{other.getsockname()[1]}/",
    )
    assert refused == "refused"
    eventually(lambda: len(page.browser.script("return window.refused")) == 3)
    directives = page.browser.script("return window.refused.sort()")
    assert directives == ["connect-src", "img-src", "script-src-elem"]
    assert page.browser.script("return window.hit") is None
    assert select.select([other], [], [], 0.2)[0] == [], "nobody has called there"
    other.close()
    said = page.browser.log()
    assert said and all("Content Security Policy" in line for line in said)


def test_what_comes_from_outside_is_text_and_never_a_page(page: Page, minirt: Command) -> None:
    minirt.ok("run", "-d", "-q", "--name", "web", "host", "sh", "-c", f"sleep 60 # {MARKUP}")
    minirt.machine.run("ip", "link", "add", "<i>&amp;\"'", "type", "bridge")
    minirt.network("odd", {"type": "bridge", "ipam": {"type": "host-local", "subnet": MARKUP}, MARKUP: MARKUP})
    minirt.fails(125, "run", "--rm", "-q", "--network", "odd", "host", "true")
    for text in (MARKUP, "</script><script>window.hit=1</script>"):
        item = {
            "kind": "call",
            "who": text,
            "to": text,
            "text": text,
            "why": text,
            "details": {"program": text, "environment": {text: text}},
        }
        head = {"story": 1, "command": text, "time": 1e9}
        (STORIES / f"9{len(text)}").write_text(
            "".join(json.dumps(line) + "\n" for line in (head, {"at": 0, "item": item}))
        )
    page.until("the container is drawn", lambda: page.containers == ["web"])
    page.choose("web")
    page.until("its command is shown", lambda: MARKUP in page.facts)
    images = "return document.querySelectorAll('img, script:not([src])').length"
    for words in ("minirt run", "<img", "</script>"):
        page.look("#/")
        page.story(words)
        page.press("end", "left")
        assert page.browser.script(images) == 1
    page.look("#/")
    page.until("the failure is listed", lambda: "failed" in page.browser.text("#stories"))
    page.story("failed")
    page.until("it tells the reason as it is", lambda: MARKUP in page.browser.text("#story-problem"))
    assert page.browser.script(images) == 1
    assert page.browser.script("return window.hit ?? null") is None
    assert (
        page.drawn("return [...g.querySelectorAll('*')].map(e => e.localName).filter(n => n === 'i' || n === 'img')")
        == []
    )
    minirt.ok("rm", "-f", "web")
    minirt.machine.run("ip", "link", "del", "<i>&amp;\"'")
