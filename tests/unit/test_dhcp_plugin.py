"""The dhcp plugin without a network: its keys, what options mean, messages as bytes, and the daemon's command line."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pyroute2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.dhcp.dhcp4msg import dhcp4msg
from pyroute2.protocols import ethmsg, ip4msg, udpmsg
from support import house, startup

from cni_plugins import dhcp
from cni_plugins.sdk.dhcp import leases, messages, options, settings, wire
from cni_plugins.sdk.dhcp.client import _times
from cni_plugins.sdk.dhcp.leases import Lease, Place, Withdrawn
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.rtmsg import LinkRoute
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.result import Dns, Ip, Result, Route

ADDRESS = parse_address("10.0.0.9")
MASK = {1: b"\xff\xff\xff\x00"}
ROUTER = b"\x0a\x00\x00\x01"


def request(ipam: dict[str, Any], args: dict[str, str] | None = None) -> Request:
    conf = {"cniVersion": "1.1.0", "name": "lan", "type": "bridge", "ipam": {"type": "dhcp"} | ipam}
    return Request(
        command="ADD",
        container_id="c1",
        netns="/ns",
        ifname="eth0",
        args=args or {},
        path=(),
        conf=View(conf),
        version="1.1.0",
        network="lan",
        prev_result=None,
        stdin=b"",
        env={},
    )


def result(found: dict[int, bytes], mtu: int = 1500, **ipam: Any) -> Result:
    return dhcp.result(dhcp.configure(request(ipam)), ADDRESS, MASK | found, mtu)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipam", "says"),
    [
        ({"priority": "7"}, 'ipam.priority: expected an integer, got "7"'),
        ({"priority": -1}, "ipam.priority: expected an integer from 0"),
        ({"request": "routers"}, "ipam.request: expected a list"),
        ({"request": [{"option": "router"}]}, "ipam.request[0].option: expected one of dhcp-client-identifier"),
        ({"request": [{"option": "256"}]}, "ipam.request[0].option: expected one of"),
        ({"request": [{}]}, "ipam.request[0].option: expected one of"),
        ({"provide": [{"option": "12", "value": "x" * 256}]}, "ipam.provide[0].value: 256 bytes"),
        ({"provide": [{"option": "12", "fromArg": "NAME"}]}, "ipam.provide[0].fromArg: 300 bytes"),
        ({"provide": [{"option": "53", "value": "x"}]}, "ipam.provide[0].option: expected an option that is not"),
        ({"provide": [{"option": 12, "value": "x"}]}, "ipam.provide[0].option: expected a string, got 12"),
        ({"suppress": ["routes"]}, 'ipam.suppress: expected a list that holds "gateway" or nothing'),
        ({"daemonSocketPath": 7}, "ipam.daemonSocketPath: expected a string, got 7"),
        ({"daemonSocketpaht": "/x"}, "ipam.daemonSocketpaht: unknown key"),
    ],
)
def test_a_wrong_key_is_told_with_its_path(ipam: dict[str, Any], says: str) -> None:
    with pytest.raises(CniError) as caught:
        dhcp.configure(request(ipam, {"NAME": "x" * 300}))
    assert caught.value.code == 7
    assert str(caught.value).startswith(says)


def test_what_is_requested_comes_beside_the_defaults_or_instead_of_them() -> None:
    defaults = dhcp.configure(request({})).request
    assert defaults[0] == 121, "RFC 3442 wants it before the others"
    assert set(defaults) >= {1, 3, 6, 15, 33, 119}
    assert dhcp.configure(request({"request": [{"option": "42"}, {"option": "routers"}]})).request == (*defaults, 42)
    alone = {"request": [{"option": "subnet-mask"}, {"option": "42", "skipDefault": True}]}
    assert dhcp.configure(request(alone)).request == (1, 42)


def test_what_is_provided_may_come_from_the_arguments() -> None:
    ipam = {
        "provide": [
            {"option": "host-name", "value": "written", "fromArg": "NAME"},
            {"option": "77", "fromArg": "MISSING", "value": "class"},
            {"option": "60", "fromArg": "MISSING"},
        ]
    }
    assert dhcp.configure(request(ipam, {"NAME": "said"})).provide == {12: b"said", 77: b"class"}


def test_B11_an_address_is_asked_for_in_the_strongest_place() -> None:
    asked = request({}, {"IP": "10.0.0.3/24"})
    assert dhcp.configure(asked).address == parse_address("10.0.0.3")
    asked.conf.document["args"] = {"cni": {"ips": ["10.0.0.4"]}}
    assert dhcp.configure(asked).address == parse_address("10.0.0.4")
    asked.conf.document["runtimeConfig"] = {"ips": ["10.0.0.5/8"]}
    assert dhcp.configure(asked).address == parse_address("10.0.0.5")


@pytest.mark.parametrize(
    ("ips", "says"),
    [
        (["fd00::1"], "runtimeConfig.ips: fd00::1 is none of IPv4"),
        (["10.0.0.3", "10.0.0.4"], "runtimeConfig.ips: 2 addresses: a lease is of one"),
        (["ten"], "runtimeConfig.ips: 'ten' is not an IP address"),
    ],
)
def test_an_address_that_no_server_can_give_is_not_asked_for(ips: list[str], says: str) -> None:
    asked = request({})
    asked.conf.document["runtimeConfig"] = {"ips": ips}
    with pytest.raises(CniError) as caught:
        dhcp.configure(asked)
    assert caught.value.code == 7
    assert str(caught.value).startswith(says)


# --- what options mean ------------------------------------------------------------------------------------------------


def test_classless_routes_count_instead_of_the_others() -> None:
    classless = bytes.fromhex("18c0a805 0a000002 00 0a000003 08 0a 00000000 20 0a090909 0a000004")
    got = result({3: ROUTER, 33: b"\xc0\xa8\x09\x09" + ROUTER, 121: classless})
    assert got.routes == (
        Route(parse_cidr("192.168.5.0/24"), parse_address("10.0.0.2")),
        Route(parse_cidr("0.0.0.0/0"), parse_address("10.0.0.3")),
        Route(parse_cidr("10.0.0.0/8"), scope=253),
        Route(parse_cidr("10.9.9.9/32"), parse_address("10.0.0.4")),
    )
    assert got.ips == (Ip(parse_cidr("10.0.0.9/24"), parse_address("10.0.0.3")),)


def test_static_routes_have_the_prefix_of_their_class() -> None:
    pairs = b"".join(
        bytes(octets) + ROUTER for octets in ([20, 1, 2, 3], [130, 7, 1, 1], [192, 168, 9, 9], [230, 0, 0, 1])
    )
    assert result({3: ROUTER, 33: pairs}).routes == (
        Route(parse_cidr("20.0.0.0/8"), parse_address("10.0.0.1")),
        Route(parse_cidr("130.7.0.0/16"), parse_address("10.0.0.1")),
        Route(parse_cidr("192.168.9.0/24"), parse_address("10.0.0.1")),
        Route(parse_cidr("0.0.0.0/0"), parse_address("10.0.0.1")),
    )


def test_dns_is_in_the_result() -> None:
    search = bytes.fromhex("03656e670561 70706c6503636f6d00 096d61726b6574696e67c004 c004".replace(" ", ""))
    got = result({6: ROUTER + b"\x0a\x00\x00\x02", 15: b"lan.test\0", 119: search})
    assert got.dns == Dns(("10.0.0.1", "10.0.0.2"), "lan.test", ("eng.apple.com", "marketing.apple.com", "apple.com"))


def test_the_gateway_can_be_suppressed() -> None:
    got = result({3: ROUTER, 33: b"\xc0\xa8\x09\x09" + ROUTER}, suppress=["gateway"])
    assert got.ips[0].gateway is None
    assert [str(route.dst) for route in got.routes] == ["192.168.9.0/24"]


def test_an_mtu_counts_where_it_is_below_the_interfaces() -> None:
    for offered, mtu, counts in ((1400, 1500, 1400), (1500, 1500, 0), (9000, 1500, 0), (60, 1500, 0), (1400, 0, 0)):
        assert result({3: ROUTER, 26: offered.to_bytes(2, "big")}, mtu).routes[0].mtu == counts


@pytest.mark.parametrize("mask", [None, b"", b"\xff\xff", b"\xff\x00\xff\x00"])
def test_an_address_without_a_mask_is_no_address(mask: bytes | None) -> None:
    with pytest.raises(CniError, match="without a usable subnet mask"):
        dhcp.result(dhcp.configure(request({})), ADDRESS, {} if mask is None else {1: mask}, 1500)


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=300)))
def test_whatever_a_server_sends_there_is_a_result_or_a_sentence(found: dict[int, bytes]) -> None:
    try:
        result(found)
    except CniError as error:
        assert error.code == 101


@given(st.dictionaries(st.integers(1, 254).filter(lambda code: code != 52), st.binary(max_size=700)))
def test_options_longer_than_a_piece_are_split_and_joined(found: dict[int, bytes]) -> None:
    """RFC 3396, as option 121 needs it (RFC 3442)."""
    message = bytes(236) + b"\x63\x82\x53\x63" + options.pack(found) + b"\xff"
    assert options.of(message) == found


@given(st.binary(max_size=600))
def test_a_message_broken_off_is_read_as_far_as_it_goes(data: bytes) -> None:
    options.of(data)
    options.of(bytes(236) + b"\x63\x82\x53\x63" + data)
    assert messages.read(data) is None


def test_options_may_stand_in_the_fields_of_the_boot_file() -> None:
    head = bytearray(236)
    head[108:115] = b"\x06\x04" + ROUTER + b"\xff"
    head[44:50] = b"\x0f\x03lan\xff"
    message = bytes(head) + b"\x63\x82\x53\x63" + b"\x34\x01\x03\xff"
    assert options.of(message) == {52: b"\x03", 6: ROUTER, 15: b"lan"}


# --- messages ---------------------------------------------------------------------------------------------------------

CLIENT = messages.Client("02:00:00:00:00:07", b"\0c1/lan/eth0", (121, 1, 3), {12: b"web", 200: b"x" * 300})


def decoded(frame: bytes) -> tuple[ethmsg, ip4msg, udpmsg, dhcp4msg]:
    """As pyroute2 reads it."""
    eth = ethmsg(buf=frame).decode()
    ip = ip4msg(buf=frame, offset=eth.offset).decode()
    udp = udpmsg(buf=frame, offset=ip.offset).decode()
    return eth, ip, udp, dhcp4msg(buf=frame, offset=udp.offset).decode()


def test_a_discover_is_what_rfc_2131_says() -> None:
    frame = messages.discover(CLIENT, 0x12345678, ADDRESS)
    eth, ip, udp, message = decoded(frame)
    assert (eth["dst"], eth["src"]) == ("ff:ff:ff:ff:ff:ff", CLIENT.mac)
    assert (ip["src"], ip["dst"], udp["sport"], udp["dport"]) == ("0.0.0.0", "255.255.255.255", 68, 67)
    assert (message["xid"], message["chaddr"], message["flags"]) == (0x12345678, CLIENT.mac, 0)
    assert message["options"]["message_type"] == 1
    assert message["options"]["requested_ip"] == str(ADDRESS)
    assert message["options"]["parameter_list"] == [121, 1, 3]
    assert message["options"]["host_name"] == "web"
    assert message["options"]["client_id"] == {"type": 0, "key": b"c1/lan/eth0"}
    assert options.of(frame[42:])[200] == b"x" * 300


def test_checksums_are_right() -> None:
    frame = messages.release(CLIENT, 1, ADDRESS, parse_address("10.0.0.1"), "02:00:00:00:00:01")
    ip, udp = frame[14:34], frame[34:]
    pseudo = ip[12:20] + b"\0\x11" + len(udp).to_bytes(2, "big")
    for covered in (ip, pseudo + udp):
        padded = covered + b"\0" * (len(covered) % 2)
        total = sum(int.from_bytes(padded[start : start + 2], "big") for start in range(0, len(padded), 2))
        assert total % 0xFFFF == 0


def test_a_message_to_the_server_alone_does_not_ask_to_be_answered_to_all() -> None:
    shy = messages.Client(CLIENT.mac, CLIENT.identifier, (), {}, broadcast=True)
    assert decoded(messages.discover(shy, 1))[3]["flags"] == 0x8000
    assert dhcp4msg(buf=messages.renew(shy, 1, ADDRESS)).decode()["flags"] == 0


def test_times_have_their_usual_share_of_the_lease() -> None:
    def seconds(count: int) -> bytes:
        return count.to_bytes(4, "big")

    assert _times({51: seconds(800)}) == (400, 700, 800)
    assert _times({51: seconds(800), 58: seconds(10), 59: seconds(20)}) == (10, 20, 800)
    assert _times({51: seconds(800), 58: seconds(900), 59: seconds(1000)}) == (800, 800, 800)
    assert _times({51: b"\xff" * 4}) == (None, None, None)
    assert _times({}) == (1800, 3150, 3600)


# --- records, wire, command line --------------------------------------------------------------------------------------


def test_a_lease_is_written_down_whole() -> None:
    way = LinkRoute(parse_cidr("0.0.0.0/0"), parse_address("10.0.0.1"), 3, 7, 254, 0, 1400, 0, ADDRESS)
    for renew, withdrawn in ((12.5, Withdrawn(parse_cidr("10.0.0.9/24"), (way,))), (None, None)):
        lease = Lease(
            Place("/ns", (4, 17), "eth0", "/host"),
            ADDRESS,
            parse_address("10.0.0.1"),
            "02:00:00:00:00:01",
            {1: b"\xff\xff\xff\0"},
            renew,
            renew,
            renew,
            (1, 3),
            {12: b"web"},
            b"frame",
            withdrawn,
        )
        assert leases.from_json(leases.to_json(lease), "eth0", "/host") == lease
    assert leases.from_json({}, "eth0") is None
    assert leases.way_back({"netns": "/ns", "identity": [4, 17], "release": "zz"}, "eth0") is None


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        with pytest.raises(wire.NoDaemonError, match="Connection refused"):
            wire.ask(path, {}, 5)
        silent.listen()
        with pytest.raises(wire.NoDaemonError, match="gives no answer"):
            wire.ask(path, {}, 0.1)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[]\n", b"{"])
def test_who_answers_something_else_is_no_daemon(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            connection.recv(1 << 16)
            connection.sendall(answer)
            connection.close()

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(wire.NoDaemonError, match="another program"):
            wire.ask(path, {"verb": "STATUS"}, 5)
        server.join()


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("10", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("2.5s", 2.5)]
)
def test_lengths_of_time_are_written_as_go_writes_them(text: str, seconds: float) -> None:
    got = settings.read(["daemon", "-timeout", text, f"--resendmax={text}"])
    assert isinstance(got, settings.Settings)
    assert (got.timeout, got.resendmax) == (seconds, seconds)


@pytest.mark.parametrize(
    "words",
    [["demon"], [], ["daemon", "--timeout", "soon"], ["daemon", "--timeout", "0s"], ["daemon", "--pidfile", "pid"]],
)
def test_a_command_line_that_makes_no_sense_is_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert settings.read(words) == 2
    assert "usage: dhcp" in capfd.readouterr().err


def test_a_socket_handed_over_is_taken_by_the_process_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from cni_plugins.sdk.dhcp import process

    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert process.inherited() is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(CniError, match="LISTEN_FDS is '2'"):
        process.inherited()


def installed(folder: Path, *packages: Path) -> list[str]:
    """The daemon's command line, with our package and `packages` in one folder and nothing else of ours around."""
    folder.mkdir()
    for package in (house.TOP / "cni_plugins", *packages):
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    words = f"import sys; sys.path.append({str(folder)!r})"
    launch = "from cni_plugins.sdk.main import main; from cni_plugins.dhcp import PLUGIN; main(PLUGIN)"
    return [startup.PYTHON, "-IS", "-c", f"{words}; {launch}", "daemon", "--socketpath", str(folder)]


def said(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr


def test_the_daemon_finds_pyroute2_beside_its_own_package(tmp_path: Path) -> None:
    argv = installed(tmp_path / "site", Path(pyroute2.__file__).parent)
    assert said(argv) == f"dhcp: error: {tmp_path}/site is there, and is no socket: name another with --socketpath\n"


def test_without_pyroute2_the_daemon_says_what_it_needs(tmp_path: Path) -> None:
    """Also where there is one that is too old, as in a distribution."""
    older = tmp_path / "pyroute2"
    (older / "dhcp").mkdir(parents=True)
    (older / "__init__.py").touch()
    (older / "dhcp" / "__init__.py").touch()
    for number, packages in enumerate([(), (older,)]):
        text = said(installed(tmp_path / str(number), *packages))
        assert text.startswith("dhcp: error: the daemon needs pyroute2 0.9 (No module named 'pyroute2")
        assert text.count("\n") == 1
