"""Pictures of hosts that are made up: whatever they are, an SVG's labels do not overlap, and text fits the terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drawings
from support.drawings import Area, Svg

from minirt.netadmin.catalog import Entry, User
from minirt.picture import scheme, survey, svg, text
from minirt.picture.kernel import Link, Route, Space
from minirt.picture.model import (
    ELSEWHERE,
    LENT,
    MISSING,
    NOWHERE,
    PARENT,
    THERE,
    VETH,
    Container,
    Interface,
    Picture,
    Port,
    Wire,
)
from minirt.picture.ruleset import Ruleset
from minirt.state import Attached
from minirt.svg import DARK, LIGHT
from minirt.visible import line as visible

LONG6 = "fd00:1111:2222:3333:4444:5555:6666:7777/64"
# The kernel takes any bytes for a link's name: what a terminal would obey, what XML forbids, what is no UTF-8.
NAMES = st.text("abc<>&\"'-_.λ\x1b[2J\x00\x07\x7f\x9b\u2028\u202e\udcff\ufffe|{}\\", min_size=1, max_size=24)
ADDRESSES = st.lists(
    st.sampled_from(["10.1.0.2/24", "192.168.100.200/24", LONG6, "fd00::2/64"]), max_size=4, unique=True
)
HOWS = st.sampled_from([VETH, "bridged", "bridged", PARENT, LENT, NOWHERE, ELSEWHERE])
UPLINK = Link(2, "eth0", "", "02:00:00:00:00:01", True, addresses=("192.0.2.1/24",))
BRIDGES = tuple(
    Link(index, f"br-{index}", "bridge", "02:00:00:00:00:02", index == 3, addresses=(f"10.{index}.0.1/24",))
    for index in (3, 4)
)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """A host with an uplink and two bridges, and containers with interfaces of every sort."""
    host = [UPLINK, *BRIDGES]
    containers = []
    for number in range(draw(st.integers(0, 5))):
        interfaces = []
        for position in range(draw(st.integers(0, 3))):
            how = draw(HOWS)
            bridge = draw(st.sampled_from(BRIDGES)) if how == "bridged" else None
            inner = Link(
                2 + position,
                draw(NAMES) + str(position),
                "veth",
                "02:00:00:00:00:03",
                True,
                addresses=tuple(draw(ADDRESSES)),
            )
            end = UPLINK if how == PARENT else None
            if how in (VETH, "bridged"):
                below = bridge.index if bridge else 0
                end = Link(
                    len(host) + 10, f"{draw(NAMES)}{len(host):02x}", "veth", "02:00:00:00:00:04", True, below=below
                )
                host.append(end)
            interfaces.append(Interface(draw(NAMES), inner, Wire(VETH if bridge else how, end, bridge)))
        ports = [Port("tcp", "", 8080, "10.1.0.2", 80, draw(st.sampled_from([THERE, MISSING])))] * draw(
            st.integers(0, 1)
        )
        space = Space("/run/netns/x", number, (), (Route("default", "10.1.0.1", "eth0"),))
        identity = f"{number:064x}"
        name = draw(NAMES)
        containers.append(Container(identity, name, space.path, space, tuple(interfaces), tuple(ports), ()))
    routes = (Route("default", "192.0.2.2", "eth0"),) * draw(st.integers(0, 1))
    space = Space("/proc/self/ns/net", 1, tuple(host), routes)
    notes = tuple(draw(st.lists(NAMES, max_size=2)))
    return Picture(draw(NAMES), space, tuple(containers), BRIDGES, "", notes)


@settings(max_examples=120, deadline=None)
@given(pictures())
def test_no_label_of_an_svg_overlaps_another_or_leaves_its_card(picture: Picture) -> None:
    drawn = Svg(svg.draw(scheme.of(picture)))
    assert drawn.faults() == []
    cards = {item.get("data-id"): item for item in drawn.root.iter() if item.get("data-id")}
    assert cards.keys() == {container.id for container in picture.containers}
    for container in picture.containers:
        assert visible(container.name) == cards[container.id][1].text
        assert visible(container.name) in drawn.words
        for interface in container.interfaces:
            assert set(interface.link.addresses) <= set(drawn.words)


def test_a_dozen_containers_fit_a_slide_and_no_wire_runs_through_one() -> None:
    ends = [Link(20 + n, f"veth{n:08x}", "veth", "02:00:00:00:00:04", True, below=3) for n in range(12)]
    containers = []
    for number, end in enumerate(ends):
        inner = Link(2, "eth0", "veth", "02:00:00:00:00:03", True, addresses=("10.3.0.2/24", "fd00::2/64"))
        space = Space("x", number, (inner,), (Route("default", "10.3.0.1", "eth0"),))
        wired = (Interface("lab", inner, Wire(VETH, end, BRIDGES[0])),)
        containers.append(Container(f"{number:064x}", f"web-{number}", "x", space, wired, (), (), ("guest",)))
    host = Space("", 1, (UPLINK, *BRIDGES, *ends), (Route("default", "192.0.2.2", "eth0"),))
    drawn = Svg(svg.draw(scheme.of(Picture("lab", host, tuple(containers), BRIDGES))))
    assert drawn.faults() == []
    assert min(1920 / drawn.page.right, 1080 / drawn.page.bottom) > 0.9, "letters have nearly their own size"
    rows = sorted({card.top for card in drawn.cards if card.left > 700})
    assert len(rows) == 6, "on a grid"
    for path in drawn.paths:
        for start, y, end in re.findall(r"([\d.]+) ([\d.]+) H([\d.]+)", path):
            lane = Area("lane", float(start), float(y) - 1, float(end), float(y) + 1)
            assert not any(card.meets(lane) for card in drawn.cards)
    assert drawn.root.findtext(f"{drawings.SVG}title") == "host lab, all networks"
    assert "web-11, 000000000000: eth0 on lab  02:00:00:00:00:03; 10.3.0.2/24" in (
        drawn.root.findtext(f"{drawings.SVG}desc") or ""
    )


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_whatever_names_are_mermaid_and_text_can_be_read(picture: Picture) -> None:
    nodes, edges = drawings.mermaid(scheme.mermaid(scheme.of(picture)))
    assert len([key for key in nodes if key.startswith("c_")]) == len(picture.containers)
    wired = [edge for edge in edges if edge[2].startswith("c_")]
    assert len(wired) == sum(len(container.interfaces) for container in picture.containers)
    told = text.draw(picture)
    assert max(map(len, told.split("\n"))) <= 100
    for drawn in (told, scheme.mermaid(scheme.of(picture)), scheme.dot(scheme.of(picture))):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", drawn)


@settings(max_examples=5, deadline=None)
@given(pictures())
def test_graphviz_takes_what_is_drawn_for_it(picture: Picture) -> None:
    edges = drawings.dot(scheme.dot(scheme.of(picture)))
    assert len(edges) == len(scheme.of(picture).edges)


def test_an_svg_has_the_same_colours_for_light_and_dark() -> None:
    assert LIGHT.keys() == DARK.keys()
    empty = Picture("lab", Space("", 1, (UPLINK,), ()), (), ())
    style = svg.draw(scheme.of(empty)).partition("<style>")[2].partition("</style>")[0]
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    assert light.count("fill: #") == dark.count("fill: #") > 10
    assert "var(" not in style and "http" not in style


@pytest.mark.parametrize("paper", ["paper", "card", "frame"])
@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_what_is_written_can_be_read_on_what_it_is_written_on(colours: dict[str, str], paper: str) -> None:
    """WCAG's contrast: 4.5 for text. On the frame stand the host's name and nothing else of a colour."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("ink", "quiet", *(() if paper == "frame" else ("red", "green", *svg.KINDS.values()))):
        low, high = sorted((light(colours[name]), light(colours[paper])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_links_with_names_alike_are_cards_of_their_own() -> None:
    bridges = tuple(Link(index, name, "bridge", "", True) for index, name in enumerate(("a-b", "a.b", "a_b"), 3))
    drawn = scheme.of(Picture("lab", Space("", 1, bridges, ()), (), bridges))
    nodes, _edges = drawings.mermaid(scheme.mermaid(drawn))
    assert len([key for key in nodes if key.startswith("bridge_")]) == 3


class Users:
    """A catalog whose one network has a container at `path`, or says nonsense of it."""

    def __init__(self, result: dict[str, Any]) -> None:
        self._result = result

    def users(self) -> dict[str, list[User]]:
        return {"net": [User("c1", "c1", Attached("net", "eth0", "", "", {}, self._result))]}

    def entries(self) -> list[Entry]:
        return []


@pytest.mark.parametrize("interfaces", [[{"sandbox": "/run/netns/gone"}], [7, "x"], [{"sandbox": ""}], None])
def test_a_container_that_ends_while_it_is_looked_at_is_left_out(
    monkeypatch: pytest.MonkeyPatch, interfaces: Any
) -> None:
    monkeypatch.setattr(survey, "alive", lambda _path: True)
    catalog: Any = Users({"interfaces": interfaces})
    assert survey.take(catalog, (), "net", Ruleset([], "")).containers == ()
