"""An account as text: what a shell takes as it stands, in 100 columns, and what a command is for."""

from __future__ import annotations

import io
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_plugins.spec.names import quoted
from cni_plugins.spec.steps import commands
from minirt.cni.words import document, said
from minirt.explain import glossary
from minirt.explain.account import ANSWER, COMMAND, FACT, PROBLEM, Account, Item
from minirt.explain.text import Text, broken, with_variable, wrapped
from minirt.terminal import WIDTH

ID = "4f2a" * 16


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ip link set a up", ["ip link set a up"]),
        ("ip link set a up\nip link set b up", ["ip link set a up", "ip link set b up"]),
        ("nft 'add a { x; }'\nnft 'add b'", ["nft 'add a { x; }'", "nft 'add b'"]),
        ("rm '/a/o'\\''b/c'\nrm '/a/d'", ["rm '/a/o'\\''b/c'", "rm '/a/d'"]),
        ("nft 'create table t\ntable t {\n}\n'\nnft 'add b'", ["nft 'create table t\ntable t {\n}\n'", "nft 'add b'"]),
        ("while ip link | grep -q x; do sleep 1; done", ["while ip link | grep -q x; do sleep 1; done"]),
        ("", []),
    ],
)
def test_the_commands_of_a_step_stand_on_a_line_each(text: str, found: list[str]) -> None:
    assert commands(text) == found


WORDS = st.lists(st.text("abc/=:-", min_size=1, max_size=60), min_size=1, max_size=12)


@given(words=WORDS)
def test_a_broken_command_is_the_same_command(words: list[str]) -> None:
    command = shlex.join(words)
    text = "\n".join(broken(command, "$ ", "    ")).removeprefix("$ ")
    assert shlex.split(text.replace("\\\n", "")) == words
    assert all(len(line) <= WIDTH or len(line.split()) <= 3 for line in text.splitlines())


@settings(max_examples=60)
@given(words=st.lists(st.text("ab,' \\\n", min_size=1, max_size=60), min_size=2, max_size=6))
def test_a_broken_command_with_odd_words_is_the_same_to_a_shell(words: list[str]) -> None:
    item = Item(COMMAND, "bridge", " ".join(map(quoted, ["printf", "%s.", *words])), 1)
    shown = "\n".join(line for line in told(item, form="full").split("\n")[1:]).removeprefix("    $ ")
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"{word}." for word in words)


def test_a_list_in_a_word_is_broken_at_its_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"setpriv --bounding-set={','.join(f'+number_{each}' for each in range(30))} --no-new-privs"
    text = "\n".join(broken(command, "", "    "))
    assert max(map(len, text.splitlines())) <= WIDTH
    monkeypatch.setenv("setpriv", "")
    words = subprocess.run(
        ["sh", "-c", f"set -- {text}; printf '%s\\n' \"$@\""], capture_output=True, text=True, check=True
    )
    assert words.stdout.split("\n")[:-1] == shlex.split(command)


def test_a_long_text_for_nft_is_broken_so_that_nft_reads_the_same() -> None:
    """nft joins lines that end in a backslash, as a shell does; names in its double quotes stay whole."""
    sets = "table inet box {\n\tset a { type ipv6_addr . ipv6_addr; flags interval; }\n}\n"
    element = 'fd6d:696e:6972:7400::/64 . fd6d:696e:6972:7400::/64 comment "the first of all, cni minirt eth0"'
    command = f"nft 'add element inet box a {{ {element} }}'"
    text = "\n".join(broken(command, "  $ ", "    ")).removeprefix("  $ ")
    assert max(map(len, text.splitlines())) <= WIDTH
    script = f"printf '%s' '{sets}' | nft -f - && {text} && nft list ruleset"
    argv = ["unshare", "-rn", "sh", "-ec", script]
    assert element in " ".join(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@given(words=WORDS)
def test_wrapped_words_are_the_same_words(words: list[str]) -> None:
    assert " ".join(wrapped(" ".join(words), "    ")).split() == " ".join(words).split()


@pytest.mark.parametrize(
    "command", [f"echo {ID}", f"echo 'cni net {ID} eth0'", f"echo /run/{ID}/x {ID}_x '{ID}' a{ID}b", "echo"]
)
def test_a_variable_for_the_id_gives_the_same_words(command: str) -> None:
    shown = with_variable(command, ID)
    assert ID not in shown
    typed = subprocess.run(["sh", "-c", f"ID={ID}; {shown}"], capture_output=True, text=True, check=True).stdout
    assert typed == subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


def told(*items: Item, form: str = "short") -> str:
    stream = io.StringIO()
    text = Text(stream, form, {})
    for item in items:
        text.write(item)
    return stream.getvalue()


def test_a_reason_is_given_once_and_in_full_each_time() -> None:
    item = Item(COMMAND, "bridge", "ip link set a up", 1, why="because")
    assert told(item, item).count("because") == 1
    assert told(item, item, form="full").count("because") == 2


def test_a_text_of_many_lines_is_whole_only_in_full() -> None:
    item = Item(COMMAND, "bridge", "nft 'one\ntwo\nthree'", 1)
    assert "$ nft 'one …'   2 more lines: --explain=full" in told(item)
    assert "$ nft 'one\n        two\n        three'\n" in told(item, form="full")


@pytest.mark.parametrize("form", ["short", "full"])
def test_what_a_terminal_would_obey_is_shown(form: str) -> None:
    """A plugin may say anything."""
    bad = "\x1b]0;title\x07 and \x9b31m"
    items = [Item(kind, "bridge", bad, 1, "runtime", details={"log": bad}) for kind in (FACT, COMMAND, ANSWER, PROBLEM)]
    text = told(*items, form=form)
    assert "\x1b" not in text and "\x07" not in text and "\x9b" not in text
    assert text.count("\\x1b]0;title\\x07 and \\x9b31m") >= 4


def test_a_stream_that_is_gone_loses_the_account_and_nothing_else() -> None:
    stream = io.StringIO()
    account = Account(Text(stream, "short", {}).write)
    stream.close()
    account.fact("nobody reads this")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ip -n box link set lo up", "the loopback, which is down in a new namespace"),
        ("nsenter --net=/proc/1/ns/net ip -6 route add default via fe80::1", "where all packets go"),
        ("ip netns exec box sysctl -w net/ipv6/conf/eth0/disable_ipv6=0", "IPv6 on this interface"),
        ("nsenter --net=/run/netns/box", "into its network namespace"),
        ("ip addr add 10.1.0.1/32 dev veth1", "an address alone"),
        ("ip link del veth1", "a veth takes"),
        ("ip link del bwp1", "the link goes"),
        ("sysctl -w net/ipv4/ip_forward=1", "the host passes packets on"),
        ("sysctl -w net/ipv4/conf/eth0/forwarding=0", "what comes in by this interface is not passed on"),
        ("nft 'delete element inet cni_portmap any4 { tcp . 80 }'", "published no more"),
        ("mount -o rbind,nodev --make-rprivate /srv/root /run/minirt/stage/root", "the image"),
        ("mount -o rbind,nodev --make-rprivate /srv/x /run/minirt/stage/root/x", "a path of the host"),
        ("frobnicate", ""),
    ],
)
def test_a_command_is_explained_wherever_it_works(command: str, reason: str) -> None:
    assert glossary.why(command).startswith(reason) and bool(glossary.why(command)) == bool(reason)


@pytest.mark.parametrize(
    ("command", "look"),
    [
        ("ip netns add box", "ip netns; lsns -t net"),
        ("ip -n box addr add 10.1.0.2/24 dev eth0 brd +", "ip -n box addr show dev eth0"),
        ("ip -n box -6 route add default via fd00::1 dev eth0", "ip -n box route; ip -n box -6 route"),
        ("ip rule add from 10.1.0.2 table 100", "ip rule; ip -6 rule"),
        ("ip link add cni0 type bridge", "ip -d link show dev cni0"),
        ("ip link add eth0 link eth1 type vlan id 7", "ip -d link show dev eth0"),
        ("ip link add eth0 link eth1 netns box type macvlan", "ip -n box -d link show dev eth0"),
        ("ip link set veth1 type bridge_slave hairpin on", "bridge -d link show dev veth1"),
        ("ip tuntap add dev tap0 mode tap", "ip -d link show dev tap0"),
        ("bridge vlan add dev veth1 vid 7 pvid untagged", "bridge vlan show dev veth1"),
        ("ip netns exec box sysctl -w net/ipv4/ip_forward=1", "ip netns exec box sysctl net/ipv4/ip_forward"),
        ("sysctl -w 'net/ipv4/conf/a$b/forwarding=1'", "sysctl 'net/ipv4/conf/a$b/forwarding'"),
        ("nsenter --net=/proc/7/ns/net ip link set eth0 up", "nsenter --net=/proc/7/ns/net ip -d link show dev eth0"),
        ("nsenter --net=/proc/7/ns/net sysctl -w a=1", "nsenter --net=/proc/7/ns/net sysctl a"),
        ("tc -n box qdisc add dev eth0 ingress", "tc -n box qdisc show dev eth0; tc -n box filter show dev eth0"),
        ("nft 'add element inet cni_portmap any4 { tcp . 80 }'", "nft list table inet cni_portmap"),
        ("nft 'create table inet cni_portmap\ntable inet cni_portmap {\n}'", "nft list table inet cni_portmap"),
        ("iptables -w -t nat -A POSTROUTING -j CNI", "iptables -S; iptables -t nat -S"),
        ("conntrack -D -p udp --orig-port-dst 53", "conntrack -L"),
        ("mkdir -p /sys/fs/cgroup/pids/minirt/x", "ls /sys/fs/cgroup/pids/minirt/x"),
        ("echo 0 > /sys/fs/cgroup/pids/minirt/x/tasks", "cat /sys/fs/cgroup/pids/minirt/x/tasks"),
        ("nsenter --target 7 --mount --net", "lsns --task 9"),
        ("mount -t proc --mkdir proc /x", "findmnt --task 9"),
        ("mkdir -p '/srv/my data/o'\\''brien/net'", "ls '/srv/my data/o'\\''brien/net'"),
        ("mkdir -p rel/nets", "ls rel/nets"),
        ("frobnicate", ""),
    ],
)
def test_where_to_look_is_where_the_command_works(command: str, look: str) -> None:
    assert glossary.look(command, 9) == look


def test_an_answer_in_a_line() -> None:
    answer = document(
        b'{"interfaces": [{"name": "eth0", "sandbox": "/x"}, {"name": "br0"}], "routes": [{"dst": "0.0.0.0/0"}],'
        b' "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}], "dns": {"nameservers": ["10.1.0.1"]}}'
    )
    words = "interface eth0; address 10.1.0.2/24, gateway 10.1.0.1; route to 0.0.0.0/0; name servers 10.1.0.1"
    assert said("ADD", 0, answer, "") == words
    assert said("ADD", 0, answer, "", brief=True) == "10.1.0.2/24"
    assert said("ADD", 0, document(b'{"ip4": {"ip": "10.1.0.2/24"}}'), "") == "address 10.1.0.2/24"
    assert said("DEL", 0, None, "") == "done"
    assert said("ADD", 0, {}, "") == said("ADD", 0, document(b"no JSON"), "") == "an empty result"
    assert said("ADD", 0, {"ips": "none"}, "") == "a result of an unknown form"
    assert said("DEL", 1, {"code": 7, "msg": "no such thing"}, "it failed") == "error 7: no such thing"
    assert said("DEL", None, None, "") == "it was not run to its end" and said("DEL", 3, None, "") == "exit code 3"


def test_what_an_item_leaves_open_is_left_out_of_its_json() -> None:
    assert Item(FACT, "runtime", "x").to_json() == {"kind": "fact", "who": "runtime", "text": "x", "level": 0}
