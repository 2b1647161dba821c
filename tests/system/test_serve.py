"""`minirt serve` as a browser, another user, and the commands that it looks on at have it. What the page makes of it:
test_serve_page.py."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.command import PROGRAM, Command, bridge, eventually
from support.served import Served

STORIES = Path("/run/minirt/stories")
KEPT = 100

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "file /etc/cni/net.d/*")


@pytest.fixture
def served(minirt: Command) -> Iterator[Served]:
    server = Served(minirt)
    yield server
    assert server.end() == 0
    assert not STORIES.exists()


def names(picture: dict[str, Any]) -> dict[str, str]:
    return {container["name"]: container["state"] for container in picture["containers"]}


# --- who may look, and at what ---------------------------------------------------------------------------------------


def test_the_page_loads_nothing_from_anywhere_else(served: Served) -> None:
    answer, body = served.ask("/")
    assert answer.status == 200 and answer.getheader("Content-Type") == "text/html; charset=utf-8"
    policy = answer.getheader("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert answer.getheader("X-Content-Type-Options") == "nosniff" and answer.getheader("Cache-Control") == "no-store"
    for name in os.listdir(Path(__file__).parents[2] / "minirt/web/page"):
        answer, text = served.ask(f"/{name}")
        assert answer.status == 200
        assert b"http://" not in text.replace(b"http://www.w3.org/", b"") and b"https://" not in text
    assert b"app.js" in body


def test_there_is_something_to_look_at_and_nothing_to_change(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer, body = served.ask("/", method)
        assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD"), body
    answer, body = served.ask("/", "HEAD")
    assert (answer.status, body) == (200, b"") and int(answer.getheader("Content-Length") or 0) > 1000
    outside = ("/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/stories/../../../etc/passwd")
    for path in ("/nothing", "/stories/", *outside):
        assert served.ask(path)[0].status == 404, path


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost:8080", "127.0.0.1", "[::1]:9", "LOCALHOST")),
        *((host, 403) for host in ("evil.example", "localhost.evil.example:80", "127.0.0.1.evil", "", "10.0.0.1")),
    ],
)
def test_only_names_of_loopback_are_answered(served: Served, host: str, status: int) -> None:
    for path in ("/", "/app.js", "/?query"):
        assert served.ask(path, headers={"Host": host})[0].status == status
    if status == 403:
        assert served.ask("/events", headers={"Host": host})[0].status == 403


def test_other_users_of_the_machine_see_nothing(minirt: Command) -> None:
    """Configurations may hold secrets, and everybody reaches loopback."""
    env = dict(os.environ) | {"SUDO_UID": "1234"}
    served = Served(minirt, env=env)

    def status(uid: str) -> str:
        curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", served.url)
        return minirt.machine.text("setpriv", "--reuid", uid, "--clear-groups", *curl)

    assert [status(uid) for uid in ("0", "1234", "1235", "65534")] == ["200", "200", "403", "403"]
    assert served.end() == 0


def test_it_listens_on_loopback_alone(served: Served, minirt: Command) -> None:
    lines = minirt.machine.text("ss", "-Hltn", f"sport = :{served.port}").splitlines()
    assert {line.split()[3].rpartition(":")[0] for line in lines} == {"127.0.0.1", "[::1]"}
    answer = minirt.machine.text("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://[::1]:{served.port}/")
    assert answer == "200"


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_the_picture_follows_what_happens(served: Served, minirt: Command) -> None:
    with served.events() as events:
        assert names(events.until("picture")) == {}
        minirt.ok("run", "-d", "-q", "--name", "web", "-p", "8080:80", "host", "sleep", "60")
        began = time.monotonic()
        picture = events.until("picture", lambda data: names(data) == {"web": "running"} and ">web<" in data["svg"])
        assert time.monotonic() - began < 5
        (web,) = picture["containers"]
        (interface,) = web["interfaces"]
        (link,) = json.loads(minirt.machine.text("ip", "-n", web["id"], "-j", "addr", "show", "eth0"))
        assert interface["mac"] == link["address"] and interface["network"] == "minirt"
        assert f"{minirt.address('web')}/20" in interface["addresses"]
        assert any(port.startswith("8080/tcp → ") for port in web["ports"])
        assert minirt.machine.run("ip", "link", "show", interface["host"]).returncode == 0
        minirt.ok("stop", "-t", "0", "web")
        events.until("picture", lambda data: names(data) == {"web": "exited (137)"})
        minirt.ok("rm", "web")
        events.until("picture", lambda data: names(data) == {})


def test_what_somebody_else_attaches_is_drawn_as_well(served: Served, minirt: Command) -> None:
    minirt.machine.netns("lab")
    with served.events() as events:
        minirt.ok("cni", "add", "minirt", "/run/netns/lab")
        events.until("picture", lambda data: "attached" in names(data).values())
        minirt.ok("cni", "del", "minirt", "/run/netns/lab")
        events.until("picture", lambda data: not names(data))
    assert served.story("minirt cni del")["verbs"] == ["DEL"]


def test_one_network_can_be_shown_alone(minirt: Command) -> None:
    minirt.ok("network", "create", "shop")
    minirt.ok("run", "-d", "-q", "--name", "web", "--network", "shop", "host", "sleep", "60")
    minirt.ok("run", "-d", "-q", "--name", "other", "--network", "minirt", "host", "sleep", "60")
    served = Served(minirt, "shop")
    with served.events() as events:
        picture = events.until("picture")
    assert [*names(picture)] == ["web"] and [network["name"] for network in picture["networks"]] == ["shop"]
    minirt.ok("rm", "-f", "web", "other")
    assert served.end() == 0


# --- stories ---------------------------------------------------------------------------------------------------------


def test_a_story_is_what_explain_tells_to_the_letter(served: Served, minirt: Command) -> None:
    done = minirt("run", "--rm", "-q", "--explain=full", "-p", "8080:80", "host", "true")
    story = served.story("minirt run")
    assert [line for item in story["items"] for line in item["lines"]] == done.stderr.splitlines()
    assert story["verbs"] == ["ADD", "DEL"] and not story["failed"]
    times = [item["at"] for item in story["items"]]
    assert times == sorted(times) and 0 < times[-1] < 60


def test_a_story_is_told_while_it_happens(served: Served, minirt: Command) -> None:
    with served.events() as events:
        minirt.start("run", "-q", "--rm", "host", "sleep", "1")
        growth = events.until("items", lambda data: data["items"] and not data["done"])
        assert growth["from"] == 0 and growth["items"][0]["kind"] == "fact"
        known = len(growth["items"])
        while not growth["done"]:
            growth = events.until("items")
            assert growth["from"] == known  # no item twice, and none left out
            known += len(growth["items"])
    assert known == len(served.story("minirt run")["items"])


def test_every_command_that_attaches_or_detaches_has_a_story(served: Served, minirt: Command) -> None:
    minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "60")
    minirt.ok("network", "reload", "web")
    minirt.ok("stop", "-t", "0", "web")
    minirt.ok("start", "web")
    minirt.ok("rm", "-f", "web")
    minirt.ok("run", "-d", "-q", "--name", "short", "host", "true")
    minirt.ok("wait", "short")
    minirt.ok("rm", "short")
    served.story("the end of")
    told = [(story["command"], story["container"], story["verbs"]) for story in served.stories()]
    assert told[::-1] == [
        ("minirt run", "web", ["ADD"]),
        ("minirt network reload", "web", ["DEL", "ADD"]),
        ("minirt stop", "web", ["DEL"]),
        ("minirt start", "web", ["ADD"]),
        ("minirt rm", "web", ["DEL"]),
        ("minirt run", "short", ["ADD"]),
        ("the end of", "short", ["DEL"]),
    ]
    for command in ("minirt run", "minirt stop", "minirt rm", "the end of"):
        assert any("ip netns" in line for item in served.story(command)["items"] for line in item["lines"]), command


def test_a_failure_is_a_story_too(served: Served, minirt: Command) -> None:
    minirt.network("full", {"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.7.0.0/33"}})
    minirt.fails(125, "run", "--rm", "-q", "--network", "full", "host", "true")
    story = served.story("minirt run")
    problems = [item["text"] for item in story["items"] if item["kind"] == "problem"]
    assert story["failed"] and any("10.7.0.0/33" in text for text in problems), problems


def test_of_a_foreign_plugin_is_told_what_it_changed(
    served: Served, minirt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", "/usr/lib/cni")
    ipam = {"type": "host-local", "subnet": "10.9.0.0/24"}
    minirt.network("go", {"type": "bridge", "bridge": "cni9", "isGateway": True, "ipam": ipam})
    minirt.ok("run", "--rm", "-q", "--network", "go", "host", "true")
    texts = [item["text"] for item in served.story("minirt run")["items"] if item["who"] == "bridge"]
    assert any("cni9" in text and "10.9.0.1/24" in text for text in texts), texts


def test_the_oldest_stories_make_room(served: Served) -> None:
    for number in range(KEPT + 20):
        head = {"story": 1, "command": f"minirt run {number}", "time": 1e9 + number}
        item = {"at": 0.1, "item": {"kind": "fact", "who": "runtime", "text": "a container"}}
        (STORIES / f"1000{number:04}").write_text(f"{json.dumps(head)}\n{json.dumps(item)}\n")
    found = served.stories(lambda stories: stories and stories[0]["command"].endswith(f" {KEPT + 19}"))
    found = served.stories(lambda stories: len(stories) == KEPT)
    assert (found[0]["command"], found[-1]["command"]) == (f"minirt run {KEPT + 19}", "minirt run 20")
    eventually(lambda: len(os.listdir(STORIES)) == KEPT)


def test_what_is_no_story_is_passed_over(served: Served, minirt: Command) -> None:
    (STORIES / "1").write_bytes(b"\xff\x00{]\n\n[]\n")
    (STORIES / "2").write_text('{"story": 99}\n')
    (STORIES / "3").symlink_to("/etc/shadow")
    minirt.ok("run", "--rm", "-q", "host", "true")
    assert [story["command"] for story in served.stories()] == ["minirt run"]


def test_an_item_of_another_version_is_passed_over(served: Served) -> None:
    head = {"story": 1, "command": "minirt run", "time": 1e9}
    items = [{"at": 0, "item": {"kind": kind, "who": "runtime", "text": "a word"}} for kind in ("fact", "call", "fact")]
    (STORIES / "1").write_text("".join(f"{json.dumps(line)}\n" for line in (head, *items)))
    assert [item["kind"] for item in served.story("minirt run")["items"]] == ["fact", "fact"]


# --- what it costs, and what becomes of it ---------------------------------------------------------------------------


def test_without_anybody_who_looks_on_a_run_pays_a_single_system_call(minirt: Command) -> None:
    log = Path("/run/strace")
    argv = ["strace", "-f", "-qq", "-e", "trace=file", "-o", str(log), PROGRAM, "run", "--rm", "-q", "host", "true"]
    minirt.machine.run(*argv)
    calls = [line for line in log.read_text(errors="replace").splitlines() if "stories" in line or "explain" in line]
    log.unlink()
    assert len(calls) == 1 and "ENOENT" in calls[0], calls


def test_when_it_is_killed_commands_go_on_and_the_next_begins_anew(minirt: Command) -> None:
    first = Served(minirt)
    minirt.ok("run", "--rm", "-q", "host", "true")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    left = sorted(os.listdir(STORIES))
    minirt.ok("run", "--rm", "-q", "host", "true")
    assert sorted(os.listdir(STORIES)) == left  # nobody is told
    second = Served(minirt)
    assert second.stories(lambda _stories: True) == []
    assert second.end() == 0
    assert not STORIES.exists()


def test_two_look_on_at_once(minirt: Command) -> None:
    first, second = Served(minirt), Served(minirt)
    minirt.ok("run", "--rm", "-q", "host", "true")
    told = [served.story("minirt run")["items"] for served in (first, second)]
    assert told[0] == told[1]
    assert first.end(signal.SIGINT) == 0
    minirt.ok("run", "--rm", "-q", "--name", "late", "host", "true")
    assert second.story("minirt run")["container"] == "late"
    assert second.end() == 0
    assert not STORIES.exists()


def test_a_full_disk_costs_the_story_and_not_the_container(minirt: Command) -> None:
    minirt.machine.run("mkdir", "-p", str(STORIES))
    minirt.machine.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", str(STORIES))
    served = Served(minirt)
    (STORIES / "filler").write_bytes(b"x" * 4096)
    assert minirt.ok("run", "--rm", "-q", "host", "echo", "fine") == "fine"
    assert served.end() == 0
    minirt.machine.run("umount", str(STORIES))
    STORIES.rmdir()


def test_a_browser_that_takes_nothing_holds_up_nobody(served: Served, minirt: Command) -> None:
    lazy = socket.create_connection(("127.0.0.1", served.port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    lazy.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    mute = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]  # and these ask for nothing
    with served.events() as events:
        for number in range(3):
            minirt.ok("run", "-d", "-q", "--name", f"web{number}", "host", "sleep", "60")
        events.until("picture", lambda data: len(names(data)) == 3)
        minirt.ok("rm", "-f", "web0", "web1", "web2")
        events.until("picture", lambda data: not names(data))
    for connection in (lazy, *mute):
        connection.close()


def test_who_only_looks_takes_down_nothing(served: Served, minirt: Command) -> None:
    identity = minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "60")
    (supervisor,) = minirt.machine.text("pgrep", "-f", f"supervise {identity}").split()
    os.kill(int(supervisor), signal.SIGKILL)
    with served.events() as events:
        events.until("picture", lambda data: names(data) == {"web": "dead"})
    assert Path(f"/run/netns/{identity}").exists()
    minirt.ok("rm", "-f", "web")


def test_it_ends_when_it_is_asked_to_and_nothing_is_left(minirt: Command) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        served = Served(minirt)
        with served.events() as events:
            events.until("picture")
            assert served.end(number) == 0
        assert not STORIES.exists()


def test_a_signal_that_comes_while_it_looks_is_not_lost(minirt: Command, tmp_path: Path) -> None:
    """strace(1) sends it with the third answer of the kernel that it reads; who asks over HTTP is read at once."""
    program = tmp_path / "traced"
    inject = "inject=recvfrom:signal=TERM:when=3"
    program.write_text(f'#!/bin/sh\nexec strace -f -qq -o /dev/null -e {inject} {PROGRAM} "$@"\n')
    program.chmod(0o755)
    served = Served(minirt, program=str(program))
    with served.events():
        assert served.process.wait(timeout=10) == 0
    assert not STORIES.exists()


def test_a_taken_port_is_told(served: Served, minirt: Command) -> None:
    stderr = minirt.fails(1, "serve", "--port", str(served.port))
    assert f"port {served.port} of 127.0.0.1 is taken" in stderr and "--port" in stderr
    assert STORIES.exists()  # the other's


@pytest.mark.parametrize("words", [("--port", "x"), ("--port", "65536"), ("--port", "-1")])
def test_a_port_that_is_none_is_told(minirt: Command, words: tuple[str, ...]) -> None:
    assert "invalid port" in minirt.fails(1, "serve", *words)


def test_a_network_that_is_not_there_is_told(minirt: Command) -> None:
    assert "nowhere" in minirt.fails(1, "serve", "--port", "0", "nowhere")
    assert not STORIES.exists()


def test_strangers_who_fill_all_their_places_keep_nobody_out(minirt: Command) -> None:
    """Every user of the machine can connect, and wait: neither descriptors nor threads run out for that."""
    served = Served(minirt, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)))
    script = (
        "import socket, sys, time\n"
        "held = []\n"
        "for _ in range(400):\n"
        f"    held.append(socket.create_connection(('127.0.0.1', {served.port})))\n"
        "print('all', flush=True)\n"
        "time.sleep(30)\n"
    )
    argv = ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None and crowd.stdout.readline() == "all\n"
        assert served.ask("/")[0].status == 200
        with served.events() as events:
            minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "60")
            events.until("picture", lambda data: names(data) == {"web": "running"})
        crowd.kill()
    minirt.ok("rm", "-f", "web")
    assert served.end() == 0


@pytest.mark.parametrize("ranges", [5, [5], [[{"subnet": "10.9.0.0/24"}], 5]])
def test_a_list_that_is_not_as_it_should_be_is_borne(served: Served, minirt: Command, ranges: Any) -> None:
    minirt.network("odd", {"type": "bridge", "ipam": {"type": "host-local", "ranges": ranges}})
    minirt.network("good", bridge("cni-good", "10.50.0.0/24"))
    with served.events() as events:
        picture = events.until("picture", lambda data: "good" in [network["name"] for network in data["networks"]])
    assert picture["svg"]


def test_what_somebody_else_attaches_can_be_looked_at(served: Served, minirt: Command) -> None:
    """Its id has characters that a key of the picture has not."""
    box = minirt.machine.netns("box-1")
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"))
    minirt.ok("cni", "add", "lab", box)
    with served.events() as events:
        picture = events.until("picture", lambda data: data["containers"])
    (container,) = picture["containers"]
    assert f'data-id="{container["id"]}"' in picture["svg"]
    minirt.ok("cni", "del", "lab", box)
