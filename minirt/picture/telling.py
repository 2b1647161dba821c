"""What a person asks for in `minirt network path`, and the answer in text."""

from __future__ import annotations

import ipaddress
import textwrap
from collections.abc import Iterator

from minirt.errors import NotFound, UsageError
from minirt.picture import survey
from minirt.picture.model import Container, Picture
from minirt.picture.path import DELIVERED, LEAVES, Walk, Walker
from minirt.picture.ruleset import Ruleset
from minirt.terminal import WIDTH
from minirt.visible import line as shown

_HOST = "host"
_PROTOCOLS = ("tcp", "udp", "sctp")


def walk(picture: Picture, rules: Ruleset, start: str, to: str) -> Walk:
    """The way from `start` (a container, or host) to `to`: ADDRESS or a container, with :PORT[/PROTOCOL] or without.

    Raises NotFound, UsageError.
    """
    walker = Walker(picture, rules)
    host, port, protocol = _parse(to)
    if start == _HOST and not any(container.name == _HOST for container in picture.containers):
        address = _address(picture, None, host)
        return walker.from_host(address, protocol or _ping(address), port)
    container = survey.one(picture.containers, start)
    address = _address(picture, container, host)
    return walker.from_container(container, address, protocol or _ping(address), port)


def _parse(text: str) -> tuple[str, int, str]:
    """Who, port, protocol; 0 and nothing where they are not said. Raises UsageError."""
    problem = UsageError(f"invalid destination {text!r}", "ADDRESS or CONTAINER, and :PORT or :PORT/udp behind it")
    place, slash, protocol = text.partition("/")
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
        if not closed or (rest and not rest.startswith(":")):
            raise problem
    elif place.count(":") > 1:
        host, port = place, ""
    else:
        host, colon, port = place.partition(":")
        port = port or colon  # a colon with nothing behind it is no port
    wrong_port = bool(port) and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    if not host or wrong_port or (slash and (protocol not in _PROTOCOLS or not port)):
        raise problem
    return host, int(port or 0), protocol or ("tcp" if port else "")


def _ping(address: str) -> str:
    return "icmpv6" if ":" in address else "icmp"


def _address(picture: Picture, start: Container | None, text: str) -> str:
    """The address meant: as written, or one of a container's, of a network that both are on where there is one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        if "%" in text:
            raise UsageError(f"{text!r} says by which link it is reached, so there is no way to look for")
        return str(address)
    try:
        target = survey.one(picture.containers, text)
    except NotFound:
        raise NotFound(f"{text!r} is neither an address nor a container with a network") from None
    ours = {item.network for item in start.interfaces} if start else set()
    near = sorted(target.interfaces, key=lambda item: item.network not in ours)
    found = [address.partition("/")[0] for item in near for address in item.link.addresses]
    if not found:
        raise NotFound(f"container {target.name!r} has no address")
    return next((address for address in found if ":" not in address), found[0])


def tell(walked: Walk) -> str:
    """The whole way: hops with their numbers, what happens at each, and how it ends."""
    lines = [str(walked.packet), ""]
    for number, hop in enumerate(walked.hops, 1):
        lines.append(shown(f"{number}  {hop.place}"))
        width = max((len(mark.what) for mark in hop.marks), default=0)
        for mark in hop.marks:
            lines += _wrapped(mark.text, f"     {mark.what.ljust(width)}  ")
            if mark.hit and mark.hit.element:
                lines += _wrapped(f"its element {mark.hit.element}", f"     {' ' * width}  ")
    return "\n".join([*lines, "", *_wrapped(_ending(walked), ""), *_answer(walked)])


def _ending(walked: Walk) -> str:
    text = f"{walked.end} {walked.reason}" if walked.end == LEAVES else f"{walked.end}: {walked.reason}"
    doubts = any(mark.hit and not mark.hit.certain for hop in walked.hops for mark in hop.marks)
    return f"{text} (unless a rule marked 'perhaps' decides otherwise)" if doubts else text


def _answer(walked: Walk) -> Iterator[str]:
    """What becomes of the answer, where addresses were changed on the way."""
    changed = any(mark.what == "now" for hop in walked.hops for mark in hop.marks)
    if changed and walked.end in (DELIVERED, LEAVES):
        text = f"The answer comes back to {walked.packet.source} from {walked.packet.destination}: the kernel has "
        yield from _wrapped(f"{text}noted what it changed (`conntrack -L`), and changes it back.", "")


def _wrapped(text: str, lead: str) -> list[str]:
    return textwrap.wrap(
        shown(text),
        WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * (len(lead) + (2 if lead else 0)),
        break_long_words=False,
        break_on_hyphens=False,
    )
