"""What a plugin's process is given, row by row: identifiers, the environment of each command, standard input.

Each row is asked of a program, ours and the Go plugin of the same name (which has no GC and STATUS): the code is the
same. Reference: sections 1.2, 1.3 and 1.6; the runtime's side of the same rows is in test_contract_runtime.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support import host_local
from support.program import MAKERS, Program

from cni_plugins.sdk import launcher

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*host_local.LEAVES)]

ATTACHMENT = ("ADD", "DEL", "CHECK")
COMMANDS = (*ATTACHMENT, "GC", "STATUS", "VERSION")
VARIABLES = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")

# Table 1.3: what each command cannot do without.
REQUIRED = {
    "ADD": VARIABLES,
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": VARIABLES,
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
VALIDATED = {"CNI_CONTAINERID": "../c", "CNI_IFNAME": "a/b"}


@pytest.fixture(params=MAKERS)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    return Program(request.param, tmp_path)


def asked(program: Program, command: str) -> dict[str, Any]:
    """A configuration in which `command` succeeds: the previous result is that of ADD."""
    conf = dict(program.conf)
    if command == "CHECK":
        conf["prevResult"] = program("ADD").document
    if command in ("GC", "STATUS"):
        conf |= {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    return conf


def spoken(program: Program) -> tuple[str, ...]:
    return COMMANDS if program.path.startswith(str(program.store.parent)) else (*ATTACHMENT, "VERSION")


# --- 1.3: the environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [None, ""], ids=["missing", "empty"])
@pytest.mark.parametrize("variable", VARIABLES)
def test_S1_each_command_needs_the_variables_of_its_row(program: Program, variable: str, absent: str | None) -> None:
    for command in spoken(program):
        said = program(command, asked(program, command), **{variable: absent})
        assert said.code == (4 if variable in REQUIRED[command] else 0), (command, said)
        assert (variable in said.msg) is (variable in REQUIRED[command])


def test_S1_all_that_is_missing_is_told_at_once_in_the_order_of_the_table(program: Program) -> None:
    for command in spoken(program):
        said = program(command, b"", **dict.fromkeys(VARIABLES))
        names = [name for name in VARIABLES if name in said.msg]
        assert names == list(REQUIRED[command]) and said.code == (4 if names else 0), (command, said)
        assert ",".join(names) in said.msg


@pytest.mark.parametrize("variable", VALIDATED)
def test_S1_a_command_that_does_not_need_a_variable_does_not_look_at_it(program: Program, variable: str) -> None:
    for command in spoken(program):
        said = program(command, asked(program, command), **{variable: VALIDATED[variable]})
        assert said.code == (4 if variable in REQUIRED[command] else 0), (command, said)


def test_S1_what_is_invalid_is_told_before_what_is_missing(tmp_path: Path) -> None:
    """Ours alone: the Go skeleton does the same from cni 1.2 on, the packaged plugins are older."""
    said = Program("ours", tmp_path)("ADD", CNI_CONTAINERID=None, CNI_IFNAME="a/b", CNI_PATH=None)
    assert said.code == 4 and "missing" not in said.msg and "interface" in said.msg


@pytest.mark.parametrize("command", [None, ""])
def test_without_a_command_a_plugin_says_what_it_is_and_succeeds(program: Program, command: str | None) -> None:
    said = program(command, b"")
    assert (said.exit, said.document) == (0, None)
    assert "host-local" in said.stderr and "1.0.0" in said.stderr


@pytest.mark.parametrize("command", ["add", "NONSENSE", "ADD ", "\u00e9"])
def test_S9_an_unknown_command_is_code_4_and_named(program: Program, command: str) -> None:
    said = program(command)
    assert said.code == 4 and command in said.msg


# --- 1.2: identifiers -------------------------------------------------------------------------------------------------

PLAIN = {"a": True, "0": True, "a_b.c-d": True, "A" * 300: True, "-a": False, "_a": False, ".": False, "..": False}
PLAIN |= {"a/b": False, "a b": False, "a:b": False, "a\n": False, "é": False, "a\u0660": False}


@pytest.mark.parametrize("name", PLAIN)
def test_a_container_id_that_no_path_could_hold_is_code_4(program: Program, name: str) -> None:
    for command in ATTACHMENT:
        said = program(command, asked(program, "DEL"), CNI_CONTAINERID=name)
        assert (said.code == 4) is not PLAIN[name], (command, said)


@pytest.mark.parametrize("name", [*(name for name in PLAIN if len(name) < 255), "", None, 7])
def test_a_network_name_that_no_path_could_hold_is_code_7(program: Program, name: object) -> None:
    conf = {key: value for key, value in program.conf.items() if key != "name"}
    said = program("DEL", conf | ({} if name is None else {"name": name}))
    # A value of another type cannot be decoded into Go's structure: 6, which is 7 here, as any wrong type is (View).
    code = {0: 0, 6: 7}.get(said.code, said.code)
    assert code == (0 if PLAIN.get(str(name)) and isinstance(name, str) else 7), said


IFNAMES = {"e": True, "x" * 15: True, "é" * 7: True, "a.b-c_d@e": True, "x" * 16: False, "é" * 8: False, ".": False}
IFNAMES |= {"..": False, "a/b": False, "a:b": False, "a b": False, "a\tb": False, "a\u00a0b": False, "a\u3000b": False}


@pytest.mark.parametrize("name", IFNAMES)
def test_P8_an_interface_name_that_the_kernel_would_not_take_is_code_4(program: Program, name: str) -> None:
    for command in ATTACHMENT:
        said = program(command, asked(program, "DEL"), CNI_IFNAME=name)
        assert (said.code == 4) is not IFNAMES[name], (command, said)


def test_P8_a_name_that_the_kernel_would_replace_by_another_is_code_4(tmp_path: Path) -> None:
    """Ours alone: the Go plugins let the kernel make eth0 of it, and look for "eth%d" then."""
    assert Program("ours", tmp_path)("ADD", CNI_IFNAME="eth%d").code == 4


ARGS = {"": True, "A=1;IgnoreUnknown=1": True, "IgnoreUnknown=TRUE;K8S=x": True, "IP": False, "IP=1=2": False}
ARGS |= {";": False, "IgnoreUnknown=1;": False}


@pytest.mark.parametrize("args", ARGS)
def test_a_malformed_pair_of_CNI_ARGS_is_code_999(program: Program, args: str) -> None:
    said = program("ADD", CNI_ARGS=args)
    assert said.code == (0 if ARGS[args] else 999), said
    assert ("ARGS: invalid pair" in said.msg) is not ARGS[args]


def test_P4_CNI_ARGS_that_nobody_knows_are_passed_over(tmp_path: Path) -> None:
    """Ours alone: the Go plugins refuse them (999) unless IgnoreUnknown is among them."""
    assert Program("go", tmp_path)("ADD", CNI_ARGS="K8S_POD=x").code == 999
    assert Program("ours", tmp_path)("ADD", CNI_ARGS="K8S_POD=x", CNI_CONTAINERID="c2").code == 0


# --- what success looks like ------------------------------------------------------------------------------------------


def test_P1_P12_success_is_exit_0_and_silence_but_for_ADD_and_VERSION(program: Program) -> None:
    for command in spoken(program):
        said = program(command, asked(program, command))
        assert said.exit == 0 and said.stderr == ""
        assert (said.document is not None) is (command in ("ADD", "VERSION")), (command, said)


@pytest.mark.parametrize("name", launcher.NAMES)
def test_P20_every_plugin_tells_its_versions_to_whoever_asks(tmp_path: Path, name: str) -> None:
    said = Program("ours", tmp_path, name)("VERSION", b"", **dict.fromkeys(VARIABLES))
    assert said.exit == 0
    assert said.document["cniVersion"] == "1.1.0" == said.document["supportedVersions"][-1]


# --- 1.6: standard input, versions ------------------------------------------------------------------------------------


def test_S1_standard_input_that_cannot_be_read_is_code_5(program: Program, tmp_path: Path) -> None:
    only_to_write = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        assert program.fed("ADD", only_to_write).code == 5
        assert program.fed("VERSION", only_to_write).code == 0, "nobody reads it then"
    finally:
        os.close(only_to_write)


@pytest.mark.parametrize("text", [b"", b" ", b"{", b"{]", b"[1]", b'"x"', b"nonsense", b'{"name": "net"', b"{'a': 1}"])
def test_S1_standard_input_that_is_no_object_is_code_6(program: Program, text: bytes) -> None:
    for command in ATTACHMENT:
        assert program(command, text).code == 6


@pytest.mark.parametrize("version", ["one", "1.0.0.0", "1..0", "1.0.x"])
def test_S4_what_is_no_version_is_code_6(program: Program, version: str) -> None:
    assert program("CHECK", program.conf | {"cniVersion": version}).code == 6


@pytest.mark.parametrize("version", ["9.9.9", "1.0", "0.5.0", "1.0.1"])
def test_P2_a_version_that_is_not_spoken_is_code_1_with_those_that_are(program: Program, version: str) -> None:
    said = program("ADD", program.conf | {"cniVersion": version})
    assert said.code == 1 and version in said.document["details"] and "0.3.1" in said.document["details"]
    assert program.leases() == []


def test_S2_CHECK_of_a_version_without_it_is_code_1(program: Program) -> None:
    for version, code in {"0.3.1": 1, "0.4.0": 0}.items():
        result = program("ADD", program.conf | {"cniVersion": version}, CNI_CONTAINERID=f"c{version}").document
        conf = program.conf | {"cniVersion": version, "prevResult": result}
        assert program("CHECK", conf, CNI_CONTAINERID=f"c{version}").code == code


def test_S2_GC_and_STATUS_of_a_version_without_them_are_code_1(tmp_path: Path) -> None:
    program = Program("ours", tmp_path)
    for command in ("GC", "STATUS"):
        said = program(command, program.conf | {"cni.dev/valid-attachments": []})
        assert (said.code, said.msg) == (1, f"config version does not allow {command}")


def test_S6_a_namespace_that_is_the_plugins_own_is_code_8_and_nothing_is_given(tmp_path: Path) -> None:
    """Ours alone: the Go skeleton has the guard from cni 1.2 on, behind the work."""
    program = Program("ours", tmp_path)
    for command in ATTACHMENT:
        assert program(command, CNI_NETNS="/proc/self/ns/net").code == 8
    assert program.leases() == []
    assert program("ADD", CNI_NETNS="/proc/self/ns/net", CNI_NETNS_OVERRIDE="True").code == 0


# --- 1.6: what a configuration may be wrong in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "code"),
    [
        ({"ipam": None}, 7),
        ({"ipam": {}}, 7),
        ({"ipam": {"ranges": [[]]}}, 7),
        ({"ipam": {"ranges": {}}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.1.0.0"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": 10}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "gateway": "x"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}}, 7),
        ({"runtimeConfig": {"ips": ["10.9.9.9"]}}, 7),
        ({"runtimeConfig": {"ips": "10.1.0.9"}}, 7),
        ({"args": {"cni": {"ips": ["x"]}}}, 7),
        ({"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "x"}]}}, 7),
        ({"prevResult": {"cniVersion": "7.0.0"}}, 1),
        ({"prevResult": 7}, 7),
        ({"cniVersion": 1}, 7),
    ],
)
def test_what_is_wrong_in_a_configuration_has_its_code_and_nothing_is_given(
    tmp_path: Path, conf: dict[str, Any], code: int
) -> None:
    program = Program("ours", tmp_path)
    ipam = conf.get("ipam")
    own = {"dataDir": str(program.store), "type": "host-local"}
    said = program("ADD", program.conf | conf | ({"ipam": own | ipam} if ipam is not None else {}))
    assert said.code == code, said
    assert program.leases() == []


def test_what_is_not_served_is_code_2_with_key_and_value(tmp_path: Path) -> None:
    program = Program("ours", tmp_path, "portmap")
    previous = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
    said = program("ADD", program.conf | {"backend": "iptables", "prevResult": previous})
    assert said.code == 2 and "backend" in said.msg and "iptables" in said.msg


def test_P16_an_exhausted_range_is_a_code_of_its_own_and_50_for_STATUS(tmp_path: Path) -> None:
    program = Program("ours", tmp_path)
    program.conf["ipam"]["ranges"] = [[{"subnet": "10.1.0.0/30"}]]
    assert program("ADD").code == 0
    assert program("STATUS", program.conf | {"cniVersion": "1.1.0"}).code == 50
    assert program("ADD", CNI_CONTAINERID="c2").code >= 100
