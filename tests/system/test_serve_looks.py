"""How the page of `minirt serve` looks, on a phone, on a laptop and on a projector, light and dark.

The pictures are kept in tests/artefacts/serve, for whoever changes the page to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from support import looks, webpage
from support.browser import Browser
from support.command import Command
from support.house import TOP
from support.looks import SCHEMES, SCREENS
from support.machine import Machine
from support.served import Served
from support.webpage import GRAPH, Page

PICTURES = TOP / "tests" / "artefacts" / "serve"
SMALLEST = 15  # pixels of a projector's 1080
STEP = 8


@dataclass
class Scene:
    """Three containers on two networks, and one that failed: the page, and the addresses of its views."""

    page: Page
    minirt: Command
    views: dict[str, str]


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from webpage.machine(request)


@pytest.fixture(scope="module")
def browser(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:  # noqa: ARG001 - in there
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def scene(machine: Machine, browser: Browser) -> Iterator[Scene]:
    minirt = Command(machine)
    served = Served(minirt)
    minirt.ok("network", "create", "shop")
    minirt.ok("run", "-d", "-q", "--name", "web", "-p", "8080:80", "host", "sleep", "600")
    minirt.ok("run", "-d", "-q", "--name", "app", "--network", "minirt", "--network", "shop", "host", "sleep", "600")
    minirt.ok("run", "-d", "-q", "--name", "db", "--network", "shop", "host", "sleep", "600")
    minirt.fails(125, "run", "--rm", "-q", "--name", "late", "-p", "8080:80", "host", "true")
    stories = {story["container"]: story["id"] for story in served.stories(lambda found: len(found) == 4)}
    web = minirt.inspect("web")["Id"]
    views = {"overview": "#/", "facts": f"#/container/{web}", "step": f"#/story/{stories['web']}/{STEP}"}
    failed = next(identity for name, identity in stories.items() if name not in ("web", "app", "db"))
    yield Scene(
        Page(browser, served.url),
        minirt,
        views | {"story": f"#/story/{stories['web']}", "failure": f"#/story/{failed}"},
    )
    browser.go("about:blank")
    minirt.ok("rm", "-f", "web", "app", "db")
    minirt.ok("network", "rm", "shop")
    assert served.end() == 0
    minirt.end()


def show(scene: Scene, view: str) -> None:
    """Go there, and wait until it is there."""
    page = scene.page
    page.open(scene.views[view])
    page.until("three containers are drawn", lambda: len(page.containers) == 3)
    if view in ("step", "failure"):
        page.until("the story is there", lambda: page.steps > 0)


def judge(browser: Browser, name: str, screen: str, scheme: str) -> None:
    """Keep a picture of what is shown, and look at it."""
    picture = browser.picture(PICTURES / f"{name}-{screen}-{scheme}.png")
    size, colours = looks.painted(browser, picture)
    assert size == SCREENS[screen]
    ours = {colour: looks.variable(browser, colour) for colour in ("paper", "ground", "ink", "good")}
    assert [colour for colour, value in ours.items() if value not in colours] == [], "these colours are not seen"
    assert 0.2 < next(iter(colours.values())) < 0.95 and len(colours) > 100, "more than paper"
    assert next(iter(colours)) in (ours["paper"], ours["ground"])
    assert looks.faults(browser, looks.CLIPPED) == []
    assert looks.faults(browser, looks.PALE, looks.READABLE) == []
    if screen == "projector":
        assert looks.faults(browser, looks.TINY, SMALLEST) == []
    if "phone" in screen:
        assert looks.faults(browser, looks.LOW, looks.FINGER) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_host_looks_finished(browser: Browser, minirt: Command, screen: str, scheme: str) -> None:
    served = Served(minirt)
    page = Page(browser, served.url)
    browser.screen(*SCREENS[screen], scheme)
    page.open()
    judge(browser, "empty", screen, scheme)
    page.leave()
    assert served.end() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("view", ["overview", "facts", "step", "failure"])
def test_every_view_looks_finished(scene: Scene, browser: Browser, view: str, screen: str, scheme: str) -> None:
    browser.screen(*SCREENS[screen], scheme)
    show(scene, view)
    judge(browser, view, screen, scheme)


@pytest.mark.parametrize("screen", SCREENS)
def test_the_step_is_in_sight_in_diagram_and_account_whatever_becomes_of_the_screen(
    scene: Scene, browser: Browser, screen: str
) -> None:
    browser.screen(*SCREENS["laptop" if "phone" in screen else "phone"])
    show(scene, "step")
    browser.press(*["right"] * 20)
    browser.screen(*SCREENS[screen])
    within = """return ['#sequence', '#account'].map(e => document.querySelector(e)).map(e => {
        const [box, row] = [e, e.querySelector('.current')].map(one => one.getBoundingClientRect());
        return row.top >= box.top && row.top + 20 < box.bottom && row.bottom > box.top; });"""
    scene.page.until("both are in sight", lambda: browser.script(within) == [True, True])
    scene.page.look(scene.views["failure"])
    tops = "return ['sequence', 'account'].map(id => document.getElementById(id).scrollTop)"
    scene.page.comes("#story-problem", "portmap failed")
    scene.page.until("another story is seen from its beginning", lambda: browser.script(tops) == [0, 0])


def test_on_a_phone_the_container_that_is_looked_at_is_brought_into_sight(scene: Scene, browser: Browser) -> None:
    browser.screen(*SCREENS["phone"])
    show(scene, "overview")
    edges = f"""const card = [...{GRAPH}.querySelectorAll('g.container')].find(e => e.textContent.includes('web'));
        const [box, at] = [document.getElementById('picture'), card].map(e => e.getBoundingClientRect());
        return at.left >= box.left - 1 && at.right <= box.right + 1"""
    more = "return document.getElementById('picture').classList.contains('more')"
    assert (browser.script(edges), browser.script(more)) == (False, True)
    browser.click("#containers a")
    scene.page.comes("#facts", "web")
    scene.page.until("it is in sight", lambda: browser.script(edges))
    title = "document.querySelector('#facts h2').getBoundingClientRect()"
    assert browser.script(f"const at = {title}; return at.top >= 0 && at.bottom <= innerHeight"), "and so are its facts"
    show(scene, "facts")
    scene.page.until("and so it is for whoever is given the link", lambda: browser.script(edges))
    assert browser.script(f"return {title}.bottom <= innerHeight - 100")
    browser.click("#fit")
    assert (browser.script(edges), browser.script(more)) == (True, False), "the whole picture is there"


def test_on_a_phone_the_legend_is_seen_while_something_changes(scene: Scene, browser: Browser) -> None:
    browser.screen(*SCREENS["phone"])
    show(scene, "overview")
    scene.minirt.ok("run", "-d", "-q", "--name", "new", "host", "sleep", "600")
    scene.page.comes("#changed", "container new has come")
    browser.picture(PICTURES / "changed-phone-light.png")
    apart = """const [picture, toast] = ['picture', 'changed'].map(id => document.getElementById(id))
        .map(e => e.getBoundingClientRect());
        return toast.top >= picture.bottom - 1 || toast.bottom <= picture.top + 1"""
    assert browser.script(apart), "it covers nothing of the picture"
    scene.minirt.ok("rm", "-f", "new")


def test_steps_that_are_alike_can_be_told_apart_on_a_phone(scene: Scene, browser: Browser) -> None:
    """sysctls in a row differ at their ends, and there is room for the beginning of a line and its end."""
    browser.screen(*SCREENS["phone"])
    show(scene, "step")
    browser.picture(PICTURES / "labels-phone-light.png")
    rows = """return [...document.querySelectorAll('#sequence .row.command')].map(row =>
        [row.querySelector('title').textContent, row.querySelector('text').textContent])"""
    cut = {title: label for title, label in browser.script(rows) if "…" in label and "sysctl" in title}
    assert len(cut) > 3
    assert len(set(cut.values())) == len(cut), "each is another"
    for title, label in cut.items():
        begin, _, end = label.partition("…")
        assert begin[:8] in title and title.endswith(end), label


def test_nothing_moves_for_whoever_wants_nothing_to_move(scene: Scene, browser: Browser) -> None:
    moving = f"return [...document.getAnimations(), ...{GRAPH}.getAnimations()].length"
    for still in (True, False):
        browser.screen(*SCREENS["laptop"], still=still)
        show(scene, "overview")
        scene.minirt.ok("run", "-d", "-q", "--name", "new", "host", "sleep", "600")
        scene.page.until("it is drawn", lambda: "new" in scene.page.containers)
        mark = scene.page.drawn("return getComputedStyle(g.querySelector('.mark')).opacity")
        assert float(mark) > 0.5, "it is marked either way"
        assert (browser.script(moving) == 0) is still
        scene.minirt.ok("rm", "-f", "new")


def tabs(browser: Browser) -> list[tuple[str, float, float]]:
    """What the tab key leads to, one after the other, with its place on the page; each is seen to have the focus."""
    at = f"""let e = document.activeElement;
        if (e === document.body) return [];
        if (e.shadowRoot || e.matches('#picture > div')) e = {GRAPH}.activeElement ?? e;
        const box = e.getBoundingClientRect(), style = getComputedStyle(e.querySelector('.card') ?? e);
        const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
        const seen = e.matches('g') ? parseFloat(style.strokeWidth) > 3 : outlined;
        const name = e.getAttribute('aria-label') || e.id || e.textContent.trim();
        return [name, box.left + scrollX, box.top + scrollY, seen]"""
    found = []
    while True:
        browser.press("tab")
        if not (answer := browser.script(at)):
            break
        name, left, top, seen = answer
        assert seen, f"{name} does not show that it has the focus"
        found.append((name, left, top))
    return found


def test_the_tab_key_leads_through_the_page_as_it_is_read(scene: Scene, browser: Browser) -> None:
    browser.screen(*SCREENS["laptop"])
    show(scene, "overview")
    found = tabs(browser)
    names = [name for name, _, _ in found]
    cards = ["container web", "container app", "container db"]
    assert names[:7] == ["To the content", "minirt", "Graph of the network", *cards, "As text"]
    assert [name.partition("running")[0] for name in names[7:10]] == ["web", "app", "db"]
    for (before, x, y), (after, left, top) in pairwise(found[1:]):
        assert top > y - 30 or left > x, f"{before} comes before {after}"
    show(scene, "step")
    story = [name for name, _, _ in tabs(browser)]
    order = ["Sequence diagram", "account", "First step", "Back one step", "Play", "Next step", "Last step", "Step"]
    assert [name for name in story if name in (*order, "account-title")] == order, story
