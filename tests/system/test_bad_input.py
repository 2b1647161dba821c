"""What a person gets wrong: one clear error with a hint, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.command import CONTAINERS, NETWORKS, PROGRAM, Command, bridge, eventually

HOST = ("host", "true")


def leaves_nothing(minirt: Command) -> None:
    machine = minirt.machine
    assert machine.links() <= {"lo", "minirt0", "cni-bad"}
    assert machine.run("ip", "netns", "list").stdout == ""
    assert machine.elements() == []
    assert not CONTAINERS.exists() or list(CONTAINERS.iterdir()) == []
    results = Path("/var/lib/cni/results")
    assert not results.exists() or list(results.iterdir()) == []
    reserved = [path for path in machine.files() if "/cni/networks/" in path and path.rpartition("/")[2][:1].isdigit()]
    assert reserved == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--name", "a b", *HOST), "invalid container name 'a b'"),
        (("--name", "../x", *HOST), "invalid container name"),
        (("-p", "80", *HOST), "no host port"),
        (("-p", "99999:80", *HOST), "invalid port '99999'"),
        (("-p", "8080:80/icmp", *HOST), "invalid protocol"),
        (("--ip", "10.143.0", *HOST), "'10.143.0' is not an IP address"),
        (("--ip", "10.9.9.9", *HOST), "10.9.9.9"),
        (("--ip", "10.143.0.1", *HOST), "10.143.0.1"),
        (("--mac-address", "01:00:00:00:00:00", *HOST), "hardware address of a single interface"),
        (("--dns", "localhost", *HOST), "not an IP address"),
        (("--dns", "9.9.9.9", "--network", "plain", *HOST), "--dns is not possible on network 'plain'"),
        (("-p", "80:80", "--network", "plain", *HOST), "--publish is not possible on network 'plain'"),
        (("--network", "nonsense", *HOST), "no network 'nonsense'"),
        (("--network", "container:nobody", *HOST), "no container 'nobody'"),
        (("--network", "ns:/run/netns/none", *HOST), "/run/netns/none"),
        (("--network", "ns:/etc/passwd", *HOST), "not a network namespace"),
        (("-v", "/nonsense:/x", *HOST), "/nonsense"),
        (("-v", "data:/x", *HOST), "not a path"),
        (("-u", "nonsense", *HOST), "nonsense"),
        (("-w", "/etc/passwd", *HOST), "/etc/passwd"),
        (("-e", "=1", *HOST), "invalid environment variable"),
        (("nonsense",), "nonsense"),
        (("--explain", "full", *HOST), "hint: behind --explain it needs an equals sign: --explain=full"),
        (("",), "the name of the image is empty"),
        (("--rootfs", "", "true"), "the name of the image is empty"),
        (("--name", "x" * 300, *HOST), "longer than"),
        (("--hostname", "a\nb", *HOST), "invalid word"),
        (("--dns-search", "a\nnameserver 192.0.2.1", *HOST), "invalid word"),
        (("--rootfs", "/nonsense", "true"), "/nonsense"),
        (("--rootfs", "/etc/passwd", "true"), "/etc/passwd"),
        (("--colour", *HOST), "no such option"),
        ((), "IMAGE"),
    ],
)
def test_a_bad_command_line_is_told_with_a_hint(minirt: Command, words: tuple[str, ...], says: str) -> None:
    plain = bridge("cni-bad", "10.40.0.0/24")
    minirt.network("plain", plain | {"capabilities": {}}, file="90-plain.conflist")
    builtin = Path(NETWORKS / "10-minirt.conflist")
    builtin.write_text((Path(PROGRAM).parents[2] / "configs/minirt.conflist").read_text())
    error = minirt.fails(125, "run", *words)
    assert says in error
    leaves_nothing(minirt)
    minirt.machine.leaves("link cni-*", "address * dev cni-*")


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("nonsense", 127, "nonsense"),
        ("/usr/nonsense", 127, "/usr/nonsense"),
        ("/etc/passwd", 126, "/etc/passwd"),
        ("/usr", 126, "/usr"),
    ],
)
def test_a_command_that_cannot_run_leaves_nothing(minirt: Command, command: str, code: int, says: str) -> None:
    for detach in ((), ("-d",)):
        assert says in minirt.fails(code, "run", *detach, "host", command)
        leaves_nothing(minirt)


def test_an_image_that_is_not_there_is_told_before_anything_is_made(minirt: Command) -> None:
    Path("/run/netns").write_text("a namespace could not be made")
    for words in (("run", "nonsense"), ("run", "-d", "nonsense", "true")):
        assert "no image 'nonsense'" in minirt.fails(125, *words)
    Path("/run/netns").unlink()
    leaves_nothing(minirt)


def test_a_name_that_is_taken_says_by_whom(minirt: Command) -> None:
    identity = minirt.ok("run", "-d", "--name", "web", "host", "sleep", "600")
    error = minirt.fails(125, "run", "--name", "web", *HOST)
    assert identity[:12] in error and "hint: " in error
    minirt.ok("rm", "-f", "web")
    leaves_nothing(minirt)


def test_an_address_that_is_taken_says_by_whom(minirt: Command) -> None:
    identity = minirt.ok("run", "-d", "--name", "web", "--ip", "10.143.0.50", "host", "sleep", "600")
    error = minirt.fails(125, "run", "--ip", "10.143.0.50", *HOST)
    assert "10.143.0.50" in error and identity[:12] in error
    minirt.ok("rm", "-f", "web")
    leaves_nothing(minirt)


def test_a_malformed_list_is_named_with_line_and_column(minirt: Command) -> None:
    minirt.network("bad", bridge("cni-bad", "10.40.0.0/24"))
    path = NETWORKS / "bad.conflist"
    path.write_text('{\n  "name": "bad",\n  "plugins": [ }\n}\n')
    error = minirt.fails(125, "run", *HOST)
    assert f"{path}:3:" in error and "hint: " in error
    path.write_text('{"cniVersion": "1.0.0", "name": "bad", "plugins": [{"type": "bridge", "mtu": "big"}]}')
    assert "mtu" in minirt.fails(125, "run", *HOST)
    leaves_nothing(minirt)


def test_a_missing_plugin_says_where_it_was_looked_for(minirt: Command) -> None:
    minirt.network("odd", {"type": "nonsense"})
    error = minirt.fails(125, "run", *HOST)
    assert "nonsense" in error and "/opt/cni/bin" in error and "hint: " in error
    leaves_nothing(minirt)


REFUSAL = '{"code": 107, "msg": "out of luck", "details": "try tomorrow"}'
SCRIPTS = {
    "garbage": ("echo garbage", "not JSON"),
    "nothing": ("true", "printed nothing"),
    "refusal": (f"echo '{REFUSAL}'; echo note >&2; exit 1", "out of luck"),
    "silence": ("exit 3", "said nothing"),
    "death": ("kill -KILL $$", "signal 9"),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_plugin_that_answers_badly_is_quoted(minirt: Command, kind: str) -> None:
    script, says = SCRIPTS[kind]
    folder = Path("/opt/cni/bin")
    folder.mkdir(parents=True)
    (folder / "odd").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "odd").chmod(0o755)
    minirt.machine.leaves("file /opt/cni/bin/odd", "link cni-*", "address * dev cni-*")
    minirt.network("odd", bridge("cni-bad", "10.40.0.0/24"), {"type": "odd"})
    error = minirt.fails(125, "run", *HOST)
    assert "odd" in error and "ADD" in error and says in error
    if kind == "refusal":
        assert all(part in error for part in ("107", "try tomorrow", "note"))
    leaves_nothing(minirt)


def test_the_first_error_of_a_person_without_root_is_that_root_is_needed(minirt: Command) -> None:
    for words in (("run", *HOST), ("ps",), ("rm", "x"), ("exec", "x", "true"), ("stop", "x")):
        done = minirt.machine.run("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, *words, check=False)
        assert done.returncode in (1, 125) and "needs root" in done.stderr and "hint: " in done.stderr


def test_help_and_version_need_no_root(minirt: Command) -> None:
    for words in (("--help",), ("--version",), ("run", "--help")):
        minirt.machine.run("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, *words)


def test_debug_shows_where_it_happened(minirt: Command) -> None:
    done = minirt("--debug", "run", "--network", "nonsense", *HOST)
    assert done.returncode == 125
    assert "Traceback" in done.stderr and "minirt: error: no network 'nonsense'" in done.stderr


def test_a_plugin_that_never_returns_is_ended_by_an_interrupt(minirt: Command) -> None:
    folder = Path("/opt/cni/bin")
    folder.mkdir(parents=True)
    (folder / "odd").write_text("#!/bin/sh\n[ $CNI_COMMAND = ADD ] && sleep 600\ntrue\n")
    (folder / "odd").chmod(0o755)
    minirt.machine.leaves("file /opt/cni/bin/odd")
    minirt.network("odd", {"type": "odd"})
    process = minirt.start("run", *HOST, stderr=-1, env=os.environ)
    eventually(lambda: minirt.machine.run("pgrep", "-f", "/opt/cni/bin/odd", check=False).stdout)
    process.terminate()
    assert process.wait(10) == 143
    assert minirt.machine.run("pgrep", "-f", "/opt/cni/bin/odd", check=False).stdout == ""
    leaves_nothing(minirt)
