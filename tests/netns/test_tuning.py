"""The tuning plugin behind an interface that `ip` made; `ip -j` and the kernel's own files are the judges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.plugins import GO, Plugins
from support.sides import reference_fails

BOX = "/run/netns/box"
BACKUP = Path("/run/cni/tuning/web_eth0.json")
MAC = "02:00:00:00:00:07"
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": BOX}],
    "ips": [{"address": "10.1.0.2/24", "interface": 1}],
}
RMEM = "net/ipv4/tcp_rmem"

pytestmark = pytest.mark.leaves(*leftovers.FOLDERS)


class Tuned:
    """The interface eth0 in the namespace box, and the plugin called for it."""

    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine = machine
        self.plugins = plugins

    def conf(self, version: str = "1.0.0", **keys: Any) -> dict[str, Any]:
        return {"cniVersion": version, "name": "net", "type": "tuning", "prevResult": PREVIOUS} | keys

    def add(self, conf: dict[str, Any], **more: str) -> dict[str, Any]:
        return self.plugins.add(conf, BOX, **more)

    def error(self, command: str, conf: dict[str, Any], netns: str = BOX, **more: str) -> str:
        error = self.plugins.call(command, conf, netns, **more).error
        return f"{error['code']} {error['msg']}"

    def look(self, *names: str) -> list[Any]:
        found = self.machine.ip("link", "show", "eth0", netns="box")[0]
        shown = found | {"promisc": "PROMISC" in found["flags"], "allmulti": "ALLMULTI" in found["flags"]}
        return [shown[name] for name in names]

    def sysctl(self, key: str) -> str:
        return " ".join(self.machine.run("ip", "netns", "exec", "box", "cat", f"/proc/sys/{key}").stdout.split())


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    machine.run("ip", "-n", "box", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    yield machine
    machine.run("ip", "netns", "del", "box")


@pytest.fixture
def ours(box: Machine, tmp_path: Path) -> Tuned:
    return Tuned(box, Plugins(box, tmp_path / "bin"))


@pytest.fixture
def both(box: Machine, side: Plugins) -> Tuned:
    return Tuned(box, side)


LOOKS: dict[str, Any] = {"mac": MAC, "mtu": 1400, "promisc": True, "allmulti": True, "txQLen": 500}
SHOWN = ("address", "mtu", "promisc", "allmulti", "txqlen")


@pytest.mark.parametrize("place", ["file", "args"])
def test_the_interface_is_changed_checked_and_given_back(ours: Tuned, place: str) -> None:
    keys: dict[str, Any] = LOOKS if place == "file" else {"args": {"cni": LOOKS}}
    before = ours.look(*SHOWN)
    conf = ours.conf(**keys)
    result = ours.add(conf)
    assert ours.look(*SHOWN) == [MAC, 1400, True, True, 500]
    ours.plugins.check(conf, result, BOX).done()
    assert BACKUP.exists()
    ours.plugins.delete(conf, BOX)
    assert ours.look(*SHOWN) == before
    assert not BACKUP.exists()


@pytest.mark.parametrize("key", LOOKS)
def test_each_is_changed_alone_and_check_sees_when_somebody_changes_it(ours: Tuned, key: str) -> None:
    before = ours.look(*SHOWN)
    conf = ours.conf(**{key: LOOKS[key]})
    result = ours.add(conf)
    shown = dict(zip(LOOKS, SHOWN, strict=True))[key]
    others = [name for name in SHOWN if name != shown]
    assert ours.look(shown) == [LOOKS[key]]
    assert ours.look(*others) == [value for name, value in zip(SHOWN, before, strict=True) if name != shown]
    ours.plugins.check(conf, result, BOX).done()
    back = {"mac": "address 02:00:00:00:00:99", "mtu": "mtu 1300", "promisc": "promisc off"}
    back |= {"allmulti": "allmulticast off", "txQLen": "txqueuelen 7"}
    ours.machine.run("ip", "-n", "box", "link", "set", "eth0", *back[key].split())
    assert ours.plugins.check(conf, result, BOX).error["code"] == 100
    ours.plugins.delete(conf, BOX)
    assert ours.look(*SHOWN) == before


@reference_fails("does not tell of the new MTU, and gives the host's link of the same name the new hardware address")
def test_P7_the_result_says_what_was_changed_and_of_the_interface_alone(both: Tuned) -> None:
    result = both.add(both.conf(mac=MAC, mtu=1400))
    interfaces = [{"name": "eth0", "mac": "02:00:00:00:00:01"}]  # the host's, which happens to have the same name
    interfaces.append({"name": "eth0", "mac": MAC, "mtu": 1400, "sandbox": BOX})  # type: ignore[dict-item]
    assert (result["interfaces"], result["ips"]) == (interfaces, PREVIOUS["ips"])
    both.plugins.delete(both.conf(), BOX)


@pytest.mark.parametrize(
    ("keys", "args", "mac"),
    [
        ({"mac": "02:00:00:00:00:0A"}, "", "02:00:00:00:00:0a"),
        ({"mac": MAC}, "IgnoreUnknown=1;MAC=02:00:00:00:00:0b", "02:00:00:00:00:0b"),
        ({"mac": MAC, "runtimeConfig": {"mac": "02:00:00:00:00:0c"}}, "MAC=02:00:00:00:00:0b", "02:00:00:00:00:0c"),
        ({"runtimeConfig": {"mac": MAC}, "args": {"cni": {"mac": "02:00:00:00:00:0d"}}}, "", "02:00:00:00:00:0d"),
    ],
)
def test_the_strongest_of_four_places_gives_the_hardware_address(
    both: Tuned, keys: dict[str, Any], args: str, mac: str
) -> None:
    both.add(both.conf(**keys), args=args)
    assert both.look("address") == [mac]
    both.plugins.delete(both.conf(), BOX)


# --- sysctls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0/arp_filter"),
        ("net/ipv4/conf/IFNAME/arp_filter", "net/ipv4/conf/eth0/arp_filter"),
        ("net.ipv4.conf.eth0.arp_filter", "net/ipv4/conf/eth0/arp_filter"),
        ("net.ipv4.conf.v/10.arp_filter", "net/ipv4/conf/v.10/arp_filter"),
        ("net/ipv4/conf/v.10/arp_filter", "net/ipv4/conf/v.10/arp_filter"),
    ],
)
def test_a_sysctl_is_named_with_dots_or_slashes_and_given_back(ours: Tuned, name: str, key: str) -> None:
    ours.machine.run("ip", "-n", "box", "link", "add", "v.10", "type", "veth", "peer", "name", "v.11")
    conf = ours.conf(sysctl={name: "1"})
    result = ours.add(conf)
    assert ours.sysctl(key) == "1"
    ours.plugins.check(conf, result, BOX).done()
    ours.plugins.delete(conf, BOX)
    assert ours.sysctl(key) == "0"


@reference_fails("takes other white space for another value, and leaves the new one after DEL", "p#493")
def test_B5_check_takes_no_offence_at_white_space(both: Tuned) -> None:
    before = both.sysctl(RMEM)
    conf = both.conf(sysctl={"net.ipv4.tcp_rmem": "4096  87380 1000000"})
    result = both.add(conf)
    both.plugins.check(conf, result, BOX).done()
    both.machine.run("ip", "netns", "exec", "box", "sysctl", "-qw", f"{RMEM}=4096 87380 2000000")
    assert "2000000" in both.plugins.check(conf, result, BOX).error["msg"]
    both.plugins.delete(conf, BOX)
    assert both.sysctl(RMEM) == before


def test_a_sysctl_of_args_stands_before_the_configurations_and_beside_it(ours: Tuned) -> None:
    args = {"cni": {"sysctl": {"net/ipv4/conf/eth0/arp_filter": "1", "net.ipv4.conf.eth0.arp_ignore": "2"}}}
    conf = ours.conf(sysctl={"net.ipv4.conf.IFNAME.arp_filter": "0"}, args=args)
    result = ours.add(conf)
    assert ours.sysctl("net/ipv4/conf/eth0/arp_filter") == "1"
    assert ours.sysctl("net/ipv4/conf/eth0/arp_ignore") == "2"
    ours.plugins.check(conf, result, BOX).done()
    ours.plugins.delete(conf, BOX)
    ours.plugins.delete(ours.conf(args=args), BOX)  # no sysctl beside it, which the reference plugin dies of
    ours.add(ours.conf(args=args))
    assert ours.sysctl("net/ipv4/conf/eth0/arp_ignore") == "2"
    ours.plugins.delete(conf, BOX)


@reference_fails("leaves what it has set after DEL", "p#493")
def test_one_that_was_empty_is_empty_again(both: Tuned) -> None:
    key = "net/ipv4/ip_local_reserved_ports"
    conf = both.conf(sysctl={key: "8080,9000-9010"})
    both.plugins.check(conf, both.add(conf), BOX).done()
    assert both.sysctl(key) == "8080,9000-9010"
    both.plugins.delete(conf, BOX)
    assert both.sysctl(key) == ""


def test_one_that_can_only_be_written_is_written(ours: Tuned) -> None:
    conf = ours.conf(sysctl={"net.ipv4.route.flush": "1"})
    ours.plugins.check(conf, ours.add(conf), BOX).done()
    ours.plugins.delete(conf, BOX)


@pytest.mark.parametrize(
    ("sysctl", "said"),
    [
        ({"kernel.hostname": "x"}, "7 sysctl.kernel.hostname: invalid net sysctl key"),
        ({"net.ipv4.....kernel.hostname": "x"}, "7 sysctl.net.ipv4.....kernel.hostname: invalid net sysctl key"),
        ({"net/../kernel/hostname": "x"}, "7 sysctl.net/../kernel/hostname: invalid net sysctl key"),
        ({"net.core.nobody": "1"}, f"100 sysctl.net.core.nobody: the kernel has no such key in {BOX}"),
        ({"net.core.somaxconn": 512}, "7 sysctl.net.core.somaxconn: expected a string, got 512"),
        (
            {"net.core.somaxconn": "512", "net/core/somaxconn": "256"},
            "7 sysctl.net.core.somaxconn: duplicated sysctl keys are not allowed",
        ),
    ],
)
def test_a_sysctl_that_makes_no_sense_is_refused_before_anything_is_changed(
    ours: Tuned, sysctl: dict[str, Any], said: str
) -> None:
    assert ours.error("ADD", ours.conf(sysctl={"net.ipv4.conf.eth0.arp_filter": "1"} | sysctl)) == said
    assert ours.sysctl("net/ipv4/conf/eth0/arp_filter") == "0"
    assert not BACKUP.exists()


def test_a_key_that_stands_twice_is_refused(ours: Tuned) -> None:
    text = json.dumps(ours.conf(sysctl={"net.core.somaxconn": "512"}))
    text = text.replace('"512"', '"512", "net.core.somaxconn": "256"')
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": BOX, "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    done = ours.machine.run(f"{ours.plugins.folder}/tuning", input=text, env=env, check=False)
    assert json.loads(done.stdout)["msg"] == "sysctl.net.core.somaxconn: duplicated sysctl keys are not allowed"


@reference_fails("leaves what it has set before it failed")
def test_what_the_kernel_refuses_leaves_everything_as_it_was(both: Tuned) -> None:
    before = both.look(*SHOWN)
    sysctl = {"net.ipv4.conf.eth0.arp_filter": "1", "net.ipv4.conf.eth0.arp_ignore": "many"}
    refused = both.error("ADD", both.conf(sysctl=sysctl))
    assert both.sysctl("net/ipv4/conf/eth0/arp_filter") == "0"
    assert "arp_ignore=many: Invalid argument" in refused
    conf = both.conf(mac=MAC, promisc=True, mtu=1, sysctl={"net.ipv4.conf.eth0.arp_filter": "1"})
    refused = both.error("ADD", conf)
    assert (both.look(*SHOWN), both.sysctl("net/ipv4/conf/eth0/arp_filter")) == (before, "0")
    assert not BACKUP.exists()
    assert "ip -n box link set eth0 mtu 1: Invalid argument" in refused


@pytest.mark.parametrize(
    ("lines", "name", "allowed"),
    [
        ("^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n\n", "net.ipv4.conf.IFNAME.arp_filter", True),
        ("somaxconn\narp_filter\n", "net.ipv4.conf.IFNAME.arp_filter", True),
        ("^net.core\n", "net.ipv4.conf.IFNAME.arp_filter", False),
        ("", "net.ipv4.conf.IFNAME.arp_filter", False),
    ],
)
def test_the_administrators_list_says_which_sysctls_are_allowed(
    ours: Tuned, lines: str, name: str, allowed: bool
) -> None:
    Path("/etc/cni/tuning").mkdir(parents=True)
    Path("/etc/cni/tuning/allowlist.conf").write_text(lines)
    ours.machine.leaves("file /etc/cni/tuning/allowlist.conf")
    conf = ours.conf(sysctl={name: "1"})
    if allowed:
        ours.add(conf)
        ours.plugins.delete(conf, BOX)
        return
    said = f"7 sysctl.{name}: not allowed by /etc/cni/tuning/allowlist.conf"
    assert ours.error("ADD", conf) == said
    assert ours.error("STATUS", conf | {"cniVersion": "1.1.0"}, "") == said
    assert ours.sysctl("net/ipv4/conf/eth0/arp_filter") == "0"


def test_a_list_that_is_no_regular_expressions_is_told(ours: Tuned) -> None:
    Path("/etc/cni/tuning").mkdir(parents=True)
    Path("/etc/cni/tuning/allowlist.conf").write_text("*\n")
    ours.machine.leaves("file /etc/cni/tuning/allowlist.conf")
    assert "not a regular expression" in ours.error("ADD", ours.conf(sysctl={"net.core.somaxconn": "1"}))


# --- DEL, GC, STATUS, CHECK -------------------------------------------------------------------------------------------


@reference_fails("refuses to delete what it refused to add")
def test_P9_P10_B3_delete_bears_what_add_would_refuse(both: Tuned) -> None:
    both.add(both.conf(mtu=1400))
    for _ in range(2):
        both.plugins.delete({"cniVersion": "1.0.0", "name": "net", "type": "tuning", "mtu": "large"}, BOX)
    assert not BACKUP.exists()


def test_P10_P11_delete_needs_no_previous_result_and_may_be_repeated(both: Tuned) -> None:
    both.add(both.conf(mtu=1400))
    for _ in range(2):
        both.plugins.delete({"cniVersion": "1.0.0", "name": "net", "type": "tuning"}, BOX)
    assert not BACKUP.exists()
    assert both.machine.ip("link", "show", "eth0", netns="box")[0]["mtu"] == 1500


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
@reference_fails("leaves its file where the namespace has gone")
def test_P9_P10_P11_B10_delete_bears_that_the_namespace_has_gone(both: Tuned, netns: str) -> None:
    both.add(both.conf(mtu=1400, sysctl={"net.core.somaxconn": "512"}))
    bare = {"cniVersion": "1.0.0", "name": "net", "type": "tuning"}
    for _ in range(2):
        both.plugins.delete(bare, netns)
        assert not BACKUP.exists()


def test_delete_that_is_told_no_namespace_gives_back_where_it_was_taken(ours: Tuned) -> None:
    before = ours.sysctl("net/core/somaxconn")
    conf = ours.conf(mtu=1400, sysctl={"net.core.somaxconn": "512"})
    ours.add(conf)
    ours.plugins.delete(conf)
    assert (ours.look("mtu"), ours.sysctl("net/core/somaxconn")) == ([1500], before)
    assert not BACKUP.exists()


def test_delete_without_the_interface_gives_the_namespaces_sysctls_back(ours: Tuned) -> None:
    before = ours.sysctl("net/core/somaxconn")
    conf = ours.conf(mtu=1400, sysctl={"net.core.somaxconn": "512", "net.ipv4.conf.IFNAME.arp_filter": "1"})
    ours.add(conf)
    ours.machine.run("ip", "-n", "box", "link", "del", "eth0")
    ours.plugins.delete(conf, BOX)
    assert ours.sysctl("net/core/somaxconn") == before


def test_another_interface_of_the_same_name_is_left_as_it_is(ours: Tuned) -> None:
    conf = ours.conf(mtu=1400, sysctl={"net.ipv4.conf.IFNAME.arp_filter": "0"})
    ours.add(conf)
    for command in ("link del eth0", "link add eth0 mtu 1350 type veth peer name other"):
        ours.machine.run("ip", "-n", "box", *command.split())
    ours.machine.run("ip", "netns", "exec", "box", "sysctl", "-qw", "net.ipv4.conf.eth0.arp_filter=1")
    ours.plugins.delete(conf, BOX)
    assert (ours.look("mtu"), ours.sysctl("net/ipv4/conf/eth0/arp_filter")) == ([1350], "1")


@reference_fails("gives back what the first of the two had set")
def test_what_stands_twice_in_a_list_gives_the_original_back(both: Tuned) -> None:
    before = both.look("mtu", "address")
    first, second = both.conf(mtu=1400), both.conf(mtu=1300, mac=MAC)
    both.add(first)
    result = both.add(second)
    assert both.look("mtu", "address") == [1300, MAC]
    both.plugins.check(second, result, BOX).done()
    both.plugins.delete(second, BOX)
    both.plugins.delete(first, BOX)
    assert both.look("mtu", "address") == before


def test_P13_U22_check_allows_what_later_plugins_told_of(ours: Tuned) -> None:
    conf = ours.conf("1.1.0", mac=MAC, mtu=1400)
    result = ours.add(conf)
    ours.machine.run("ip", "-n", "box", "link", "set", "eth0", "mtu", "1300", "address", "02:00:00:00:00:99")
    assert ours.plugins.check(conf, result, BOX).error["code"] == 100
    result["interfaces"][1] |= {"mac": "02:00:00:00:00:99", "mtu": 1300}
    ours.plugins.check(conf, result, BOX).done()
    ours.plugins.delete(conf, BOX)


def test_a_file_of_an_earlier_life_is_not_given_back(both: Tuned) -> None:
    both.add(both.conf(mtu=1400))
    both.machine.run("ip", "netns", "del", "box")
    both.machine.run("ip", "netns", "add", "box")
    both.machine.run("ip", "-n", "box", "link", "add", "eth0", "mtu", "1350", "type", "veth", "peer", "name", "other")
    conf = both.conf(mtu=1450)
    both.add(conf)
    assert json.loads(BACKUP.read_text())["mtu"] == 1350
    both.plugins.delete(conf, BOX)
    assert both.look("mtu") == [1350]


def test_a_late_delete_of_another_network_takes_nothing_back(ours: Tuned) -> None:
    ours.add(ours.conf(mtu=1400))
    ours.plugins.delete(ours.conf() | {"name": "other"}, BOX)
    assert ours.look("mtu") == [1400]
    ours.plugins.delete(ours.conf(), BOX)


def test_P18_gc_gives_back_what_belongs_to_nobody_and_nothing_else(ours: Tuned) -> None:
    ours.machine.run("ip", "-n", "box", "link", "add", "eth1", "type", "veth", "peer", "name", "more")
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth1", "sandbox": BOX}]}
    conf = ours.conf("1.1.0", mtu=1400)
    ours.add(conf)
    ours.add(conf | {"prevResult": previous}, ifname="eth1")
    ours.add(conf | {"name": "other", "prevResult": previous}, container="db", ifname="eth1")
    valid = [{"containerID": "web", "ifname": "eth1"}]
    ours.plugins.call("GC", conf | {"cni.dev/valid-attachments": valid}).done()
    assert ours.look("mtu") == [1500]
    assert ours.machine.ip("link", "show", "eth1", netns="box")[0]["mtu"] == 1400
    assert {path.name for path in BACKUP.parent.iterdir()} == {"web_eth1.json", "db_eth1.json"}
    ours.plugins.call("GC", conf | {"cni.dev/valid-attachments": []}).done()
    ours.plugins.call("GC", conf | {"name": "other", "cni.dev/valid-attachments": []}).done()
    assert not list(BACKUP.parent.iterdir())


def test_P16_status_tells_when_nothing_could_be_written_down(ours: Tuned) -> None:
    conf = ours.conf("1.1.0", mtu=1400)
    ours.plugins.call("STATUS", conf).done()
    file = Path("/run/cni/file")
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    ours.machine.leaves("file /run/cni/file")
    said = "50 dataDir /run/cni/file/x: /run/cni/file is not a directory that can be written to"
    assert ours.error("STATUS", conf | {"dataDir": "/run/cni/file/x"}, "") == said
    assert ours.error("STATUS", conf | {"mtu": "1400"}, "") == '7 mtu: expected an integer, got "1400"'
    assert ours.error("STATUS", conf | {"promsic": True}, "") == "7 promsic: unknown key"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prevResult": None}, "7 prevResult is missing"),
        ({"mac": "01:00:00:00:00:01"}, "7 mac: '01:00:00:00:00:01' is not the hardware address of a single interface"),
        ({"args": {"cni": {"mtu": "9000"}}}, '7 args.cni.mtu: expected an integer, got "9000"'),
        ({"txQLen": -1}, "7 txQLen: expected an integer from 0 to 2147483647, got -1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(ours: Tuned, keys: dict[str, Any], said: str) -> None:
    assert ours.error("ADD", ours.conf(**keys)) == said


def test_an_interface_that_is_not_there_is_named(ours: Tuned) -> None:
    assert ours.error("ADD", ours.conf(mtu=1400), ifname="eth9") == f"100 there is no interface eth9 in {BOX}"


# --- with the reference plugin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["ours", "go"])
def test_what_one_side_changed_the_other_gives_back(ours: Tuned, first: str) -> None:
    """Debian's plugin does not know txQLen."""
    sides = {"ours": ours.plugins, "go": Plugins(ours.machine, GO)}
    one, other = sides.pop(first), next(iter(sides.values()))
    before = ours.look("mtu", "address", "promisc", "allmulti")
    conf = ours.conf(mtu=1400, mac=MAC, promisc=True, allmulti=True, dataDir="/run/cni/shared")
    result = one.add(conf, BOX)
    other.check(conf, result, BOX).done()
    other.delete(conf, BOX)
    assert ours.look("mtu", "address", "promisc", "allmulti") == before
    assert not list(Path("/run/cni/shared").iterdir())
