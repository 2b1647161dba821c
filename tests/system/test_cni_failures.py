"""What `minirt cni` refuses before any plugin runs, and how it tells of what went wrong in one."""

from __future__ import annotations

import json
import os

import pytest
from support.cnilab import RESULT, RESULTS, cached, laboratory, leases, scripted_plugins
from support.command import PROGRAM, Command
from support.scripted import Answer, Scripted, fails, says


@pytest.fixture
def lab(minirt: Command) -> str:
    return laboratory(minirt)


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


@pytest.mark.usefixtures("lab")
def test_the_hosts_own_namespace_is_refused_before_a_plugin_runs(minirt: Command, scripted: Scripted) -> None:
    scripted.write("bridge")
    os.symlink("/proc/self/ns/net", "/run/itself")
    for verb in ("add", "del", "check"):
        for where in (("/proc/self/ns/net",), ("/run/itself",), ("--pid", str(os.getpid()))):
            assert "minirt runs in" in minirt.fails(1, "cni", verb, "lab", *where)
    os.unlink("/run/itself")
    minirt.ok("run", "-d", "--name", "web", "--network", "host", "host", "sleep", "600")
    assert "host's own" in minirt.fails(1, "cni", "add", "lab", "--container", "web")
    minirt.ok("rm", "-f", "web")
    assert scripted.calls() == []


@pytest.mark.usefixtures("lab")
def test_a_stopped_container_is_told_to_be_one(minirt: Command) -> None:
    minirt.ok("run", "--name", "web", "--network", "none", "host", "true")
    assert "is not running" in minirt.fails(1, "cni", "add", "lab", "--container", "web")
    minirt.ok("cni", "del", "lab", "--container", "web")
    minirt.ok("rm", "web")


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "lab"), "which network namespace?"),
        (("add", "lab", "{box}", "--pid", "1"), "NETNS and --pid both name the namespace"),
        (("add", "lab", "--container", "x", "--pid", "1"), "--pid and --container both name the namespace"),
        (("add", "lab", "/run/netns/none"), "no network namespace at '/run/netns/none'"),
        (("add", "lab", "/etc/passwd"), "'/etc/passwd' is not a network namespace"),
        (("add", "lab", "/proc/self/ns/mnt"), "is not a network namespace"),
        (("add", "lab", "box"), "hint: there is /run/netns/box"),
        (("add", "lab", "--pid", "self"), "invalid process id 'self'"),
        (("add", "lab", "--container", "nobody"), "no container 'nobody'"),
        (("add", "nonsense", "{box}"), "no network 'nonsense' in /etc/cni/net.d"),
        (("add", "-lab", "{box}"), "no such option"),
        (("add", "../lab", "{box}"), "invalid network name '../lab'"),
        (("add", "", "{box}"), "missing network name"),
        (("add", "lab", "{box}", "-i", "sixteen-letters-"), "longer than 15 bytes"),
        (("add", "lab", "{box}", "-i", ".."), "'.' and '..' are not names"),
        (("add", "lab", "{box}", "-i", "a/b"), "invalid interface name 'a/b'"),
        (("add", "lab", "{box}", "-i", "a:b"), "invalid interface name 'a:b'"),
        (("add", "lab", "{box}", "-i", "a b"), "white space"),
        (("add", "lab", "{box}", "--args", "IP"), "--args: invalid CNI_ARGS pair 'IP'"),
        (("add", "lab", "{box}", "--args", "A=B=C"), "invalid CNI_ARGS pair 'A=B=C'"),
        (("add", "lab", "{box}", "--args", "A=;B=C"), "invalid CNI_ARGS pair 'A='"),
        (("add", "lab", "{box}", "--cap-args", "{ips}"), "--cap-args is not JSON: line 1 column 2"),
        (("add", "lab", "{box}", "--cap-args", "[]"), "--cap-args is not a JSON object"),
        (("add", "lab", "{box}", "--cap-args", '{"dns": {}}'), "does not take dns: no plugin of its list declares it"),
        (("add", "lab", "{box}", "--timeout", "soon"), "invalid timeout 'soon'"),
        (("add", "lab", "{box}", "--timeout", "0"), "invalid timeout '0'"),
        (("gc", "lab", "--valid", ":eth0"), "invalid attachment ':eth0'"),
        (("gc", "nonsense"), "no network 'nonsense'"),
        (("status", "nonsense"), "no network 'nonsense'"),
        (("version", "nonsense"), "no network 'nonsense'"),
        (("del", "nonsense", "{box}"), "no network 'nonsense'"),
        (("add",), "missing argument 'NETWORK'"),
    ],
)
def test_a_bad_command_line_is_told_with_a_hint_and_leaves_nothing(
    minirt: Command, words: tuple[str, ...], says: str
) -> None:
    error = minirt.fails(1, "cni", *(word.replace("{box}", "/run/netns/box") for word in words))
    assert says in error and "hint: " in error
    assert minirt.machine.links("box") == {"lo"} and leases() == [] and cached() == []


@pytest.mark.parametrize(("variable", "value"), [("CNI_ARGS", "A"), ("CAP_ARGS", "7"), ("CNI_IFNAME", "a/b")])
def test_a_bad_variable_is_named(
    minirt: Command, lab: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    error = minirt.fails(1, "cni", "add", "lab", lab)
    assert variable in error or value in error


def test_a_failure_names_plugin_verb_code_message_details_and_log(
    minirt: Command, lab: str, scripted: Scripted
) -> None:
    minirt.network("odd", {"type": "one"}, {"type": "two"}, cniVersion="1.1.0")
    scripted.write("one", ADD=[says(RESULT)], STATUS=[fails(50, "no addresses left")])
    scripted.write("two", ADD=[fails(107, "out of luck", "try tomorrow", stderr=b"log line\n")])
    error = minirt.fails(1, "cni", "add", "odd", lab)
    assert "network 'odd': plugin 'two' failed on ADD (code 107): out of luck: try tomorrow: log line" in error
    assert scripted.order() == ["one ADD", "two ADD", "two DEL", "one DEL"] and cached() == []
    error = minirt.fails(1, "cni", "status", "odd")
    assert "plugin 'one' failed on STATUS (code 50): no addresses left" in error and "hint: ADD would fail now" in error


def test_what_could_not_be_taken_back_is_told(minirt: Command, lab: str, scripted: Scripted) -> None:
    minirt.network("odd", {"type": "one"})
    scripted.write("one", ADD=[fails(107, "out of luck")], DEL=[fails(108, "worse")])
    error = minirt.fails(1, "cni", "add", "odd", lab)
    assert "out of luck" in error and "not undone: " in error and "worse" in error


def test_a_DEL_that_fails_is_remembered_until_it_succeeds_or_is_forced(
    minirt: Command, lab: str, scripted: Scripted
) -> None:
    minirt.network("odd", {"type": "one"}, {"type": "two"})
    scripted.write("one", ADD=[says(RESULT)], DEL=[fails(100, "no")])
    scripted.write("two", ADD=[says(RESULT)], DEL=[fails(100, "never")])
    minirt.ok("cni", "add", "odd", lab)
    for _ in range(2):
        error = minirt.fails(1, "cni", "del", "odd", lab)
        assert "'two' failed on DEL (code 100): never" in error and "--force goes on" in error
    assert "never" in json.loads((RESULTS / cached()[0]).read_text())["failure"]
    error = minirt.fails(1, "cni", "del", "odd", lab, "--force")
    assert "never" in error and "'one' failed on DEL (code 100): no" in error
    assert cached() == []


def test_a_plugin_that_never_returns_is_ended_after_the_timeout(minirt: Command, lab: str, scripted: Scripted) -> None:
    minirt.network("odd", {"type": "one"})
    scripted.write("one", ADD=[Answer(hang=60)])
    assert "within 0.3 s and was killed" in minirt.fails(1, "cni", "add", "odd", lab, "--timeout", "0.3")


def test_the_first_error_of_a_person_without_root_is_that_root_is_needed(minirt: Command) -> None:
    for words in (("add", "x", "/x"), ("del", "x", "/x"), ("check", "x", "/x"), ("gc", "x"), ("status", "x")):
        done = minirt.machine.run("setpriv", "--reuid=65534", "--clear-groups", *minirt_cni(*words), check=False)
        assert done.returncode == 1 and "needs root" in done.stderr
    minirt.machine.run("setpriv", "--reuid=65534", "--clear-groups", *minirt_cni("version"))


def minirt_cni(*words: str) -> tuple[str, ...]:
    return (PROGRAM, "cni", *words)
