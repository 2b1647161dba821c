"""`minirt cni` on network namespaces that are nobody's container: as cnitool works, judged by `ip` and the files."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.cnilab import RESULT, RESULTS, cached, identity, laboratory, leases, scripted_plugins
from support.command import NETWORKS, Command, bridge, eventually
from support.scripted import Answer, Scripted, fails, says

GO = "/usr/lib/cni"


@pytest.fixture
def lab(minirt: Command) -> str:
    return laboratory(minirt)


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


# --- a path ---


def test_a_namespace_is_attached_checked_and_detached(minirt: Command, lab: str) -> None:
    shown = minirt.ok("cni", "add", "lab", lab)
    result = json.loads(shown)
    assert shown == json.dumps(result, indent=4), "as cnitool lays it out"
    assert result["cniVersion"] == "1.0.0" and result["interfaces"][2]["sandbox"] == lab
    assert minirt.machine.addresses("eth0", "box") == {"10.50.0.2/24"} == {result["ips"][0]["address"]}
    assert minirt("cni", "check", "lab", lab).stdout == ""
    minirt.machine.run("ip", "-n", "box", "addr", "flush", "dev", "eth0")
    error = minirt.fails(1, "cni", "check", "lab", lab)
    assert "'bridge' failed on CHECK" in error and "minirt cni add' make it anew" in error
    assert minirt.ok("cni", "del", "lab", lab) == ""
    assert minirt.machine.links("box") == {"lo"} and leases() == [] and cached() == []


def test_an_attachment_is_added_once_and_deleted_as_often_as_one_likes(minirt: Command, lab: str) -> None:
    minirt.ok("cni", "add", "lab", lab)
    assert "is attached already" in minirt.fails(1, "cni", "add", "lab", lab)
    minirt.ok("cni", "del", "lab", lab)
    again = minirt("cni", "del", "lab", lab)
    assert again.returncode == 0 and "nothing is remembered of eth0" in again.stderr
    assert "is not attached" in minirt.fails(1, "cni", "check", "lab", lab)


def test_L27_to_L30_what_was_added_lies_where_cnitool_looks_for_it_and_as_it_reads_it(
    minirt: Command, lab: str
) -> None:
    relative = os.path.relpath(lab)
    result = json.loads(minirt.ok("cni", "add", "lab", f"/{lab}/../box", "--args", "IgnoreUnknown=1;K=V"))
    (path,) = RESULTS.iterdir()
    assert path.name == f"lab-{identity(lab)}-eth0"
    assert path.stat().st_mode & 0o777 == 0o600 and RESULTS.stat().st_mode & 0o777 == 0o700
    entry = json.loads(path.read_text())
    assert base64.b64decode(entry.pop("config")).decode() == (NETWORKS / "lab.conflist").read_text()
    assert entry == {
        "kind": "cniCacheV1",
        "containerId": identity(lab),
        "ifName": "eth0",
        "networkName": "lab",
        "netns": lab,
        "cniArgs": [["IgnoreUnknown", "1"], ["K", "V"]],
        "result": result,
    }
    minirt.ok("cni", "del", "lab", relative)
    assert cached() == []


def call_like_libcni(command: str, plugin: dict[str, Any], entry: dict[str, Any]) -> bytes:
    """One Go plugin, run as libcni runs it for what its cache says."""
    config = json.loads(base64.b64decode(entry["config"]))
    stdin = plugin | {"name": config["name"], "cniVersion": config["cniVersion"]}
    if entry.get("result"):
        stdin["prevResult"] = entry["result"]
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": entry["containerId"],
        "CNI_NETNS": entry["netns"],
        "CNI_IFNAME": entry["ifName"],
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in entry.get("cniArgs", ())),
        "CNI_PATH": GO,
    }
    done = subprocess.run(
        [f"{GO}/{plugin['type']}"], env=os.environ | env, input=json.dumps(stdin).encode(), stdout=-1, check=True
    )
    return done.stdout


def test_what_minirt_attached_the_go_way_detaches(minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNI_PATH", GO)
    minirt.ok("cni", "add", "lab", lab)
    (NETWORKS / "lab.conflist").unlink()
    (path,) = RESULTS.iterdir()
    entry = json.loads(path.read_text())
    for plugin in reversed(json.loads(base64.b64decode(entry["config"]))["plugins"]):
        call_like_libcni("DEL", plugin, entry)
    path.unlink()
    assert minirt.machine.links("box") == {"lo"} and leases() == []


@pytest.mark.parametrize("form", ["cniCacheV1", "the bare result of older libcni"])
def test_what_the_go_way_attached_minirt_detaches(
    minirt: Command, lab: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", GO)
    listed = (NETWORKS / "lab.conflist").read_text()
    entry: dict[str, Any] = {
        "kind": "cniCacheV1",
        "containerId": identity(lab),
        "config": base64.b64encode(listed.encode()).decode(),
        "ifName": "eth0",
        "networkName": "lab",
        "netns": lab,
    }
    entry["result"] = json.loads(call_like_libcni("ADD", json.loads(listed)["plugins"][0], entry))
    RESULTS.mkdir(mode=0o700)
    bare = form != "cniCacheV1"
    (RESULTS / f"lab-{identity(lab)}-eth0").write_text(json.dumps(entry["result"] if bare else entry))
    assert leases() == ["10.50.0.2"]
    minirt.ok("cni", "check", "lab", lab)
    done = minirt("cni", "del", "lab", lab)
    assert (done.returncode, done.stderr) == (0, "")
    assert minirt.machine.links("box") == {"lo"} and leases() == [] and cached() == []


def test_DEL_goes_by_the_list_of_then_and_bears_that_the_namespace_is_gone(minirt: Command, lab: str) -> None:
    minirt.ok("cni", "add", "lab", lab)
    (NETWORKS / "lab.conflist").unlink()
    minirt.machine.run("ip", "netns", "del", "box")
    Path(lab).touch()  # as an unmounted pin leaves it: no namespace, though it is there
    minirt.ok("cni", "del", "lab", lab)
    Path(lab).unlink()
    assert leases() == [] and cached() == []


def test_another_interface_is_another_attachment_and_is_found_without_its_name(minirt: Command, lab: str) -> None:
    minirt.network("two", bridge("cni-two", "10.60.0.0/24"))
    minirt.ok("cni", "add", "lab", lab)
    minirt.ok("cni", "add", "two", lab, "-i", "data0")
    assert minirt.machine.addresses("data0", "box") == {"10.60.0.2/24"}
    for verb in ("add", "del", "check"):
        assert "eth0 of cnitool-" in minirt.fails(1, "cni", verb, "two", lab, "-i", "eth0")
    minirt.ok("cni", "check", "two", lab)
    minirt.ok("cni", "del", "two", lab)
    assert minirt.machine.links("box") == {"lo", "eth0"}
    minirt.ok("cni", "del", "lab", lab)


# --- what cnitool's variables say ---


def test_cnitools_variables_are_understood_and_flags_go_before_them(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Path("/run/lists")
    elsewhere.mkdir()
    minirt.machine.leaves("file /run/lists/*")
    shutil.move(NETWORKS / "lab.conflist", elsewhere / "lab.conflist")
    assert "no network 'lab' in /etc/cni/net.d" in minirt.fails(1, "cni", "add", "lab", lab)
    monkeypatch.setenv("NETCONFPATH", str(elsewhere))
    monkeypatch.setenv("CNI_IFNAME", "net7")
    monkeypatch.setenv("CNI_ARGS", "IgnoreUnknown=1;IP=10.50.0.70")
    minirt.ok("cni", "add", "lab", lab)
    assert minirt.machine.addresses("net7", "box") == {"10.50.0.70/24"}
    monkeypatch.delenv("CNI_ARGS")
    monkeypatch.setenv("CAP_ARGS", '{"ips": ["10.50.0.80"], "mac": "02:00:00:00:00:80"}')
    minirt.ok("cni", "add", "lab", lab, "--ifname", "net8")
    (link,) = minirt.machine.ip("link", "show", "net8", netns="box")
    assert minirt.machine.addresses("net8", "box") == {"10.50.0.80/24"} and link["address"] == "02:00:00:00:00:80"
    minirt.ok("cni", "add", "lab", lab, "-inet9", "--args=IP=10.50.0.91", "--cap-args", '{"ips": ["10.50.0.90"]}')
    assert minirt.machine.addresses("net9", "box") == {"10.50.0.90/24"}, "what a capability says counts before CNI_ARGS"
    for name in ("net7", "net8", "net9"):
        minirt.ok("cni", "del", "lab", lab, "-i", name)
    assert leases() == []


def test_CNI_PATH_replaces_the_folders_of_plugins(minirt: Command, lab: str, scripted: Scripted) -> None:
    assert "not found in /run/scripted/plugins" in minirt.fails(1, "cni", "add", "lab", lab)
    scripted.write("bridge", ADD=[says(RESULT)])
    assert json.loads(minirt.ok("cni", "add", "lab", lab)) == RESULT
    minirt.ok("cni", "del", "lab", lab)
    assert scripted.order() == ["bridge ADD", "bridge DEL"]


def test_where_there_are_no_lists_the_built_in_network_has_its_name(minirt: Command) -> None:
    path = minirt.machine.netns("box")
    done = minirt("cni", "add", "minirt", path)
    assert done.returncode == 0 and "taking the built-in network 'minirt'" in done.stderr
    minirt.ok("cni", "del", "minirt", path)
    assert leases("minirt") == []


# --- a process, a container ---


@pytest.mark.usefixtures("lab")
def test_the_namespace_of_a_process_is_attached_and_detached_after_its_end(minirt: Command) -> None:
    process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    eventually(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
    minirt.ok("cni", "add", "lab", "--pid", str(process.pid))
    assert cached() == [f"lab-{identity(f'/proc/{process.pid}/ns/net')}-eth0"]
    shown = minirt.machine.run("nsenter", "-t", str(process.pid), "-n", "ip", "-j", "addr", "show", "eth0").stdout
    assert "10.50.0.2" in {item["local"] for item in json.loads(shown)[0]["addr_info"]}
    process.kill()
    process.wait()
    minirt.ok("cni", "del", "lab", "--pid", str(process.pid))
    assert leases() == [] and cached() == []
    assert "no network namespace" in minirt.fails(1, "cni", "add", "lab", "--pid", str(process.pid))


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("how", ["del", "rm", "end of its command"])
def test_a_container_joins_one_more_network_and_leaves_it(minirt: Command, how: str) -> None:
    name = minirt.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "600")
    minirt.ok("cni", "add", "lab", "--container", "web", "-i", "eth5")
    assert cached() == [f"lab-{name}-eth5"]
    assert "10.50.0.2/24" in minirt.ok("exec", "web", "ip", "-br", "addr", "show", "eth5")
    minirt.ok("cni", "check", "lab", "--container", name[:8])
    (joined,) = minirt.inspect("web")["NetworkSettings"]["Networks"].items()
    assert joined[0] == "lab" and (joined[1]["Interface"], joined[1]["IPAddress"]) == ("eth5", "10.50.0.2")
    if how == "del":
        minirt.ok("cni", "del", "lab", "--container", "web")
        assert minirt.inspect("web")["NetworkSettings"]["Networks"] == {}
        assert "eth5" not in minirt.ok("exec", "web", "ip", "-br", "link")
    elif how == "end of its command":
        minirt.ok("stop", "-t0", "web")
        assert leases() == []
    minirt.ok("rm", "-f", "web")
    assert leases() == [] and cached() == [] and minirt.machine.links() <= {"lo", "cni-lab"}


@pytest.mark.usefixtures("lab")
def test_what_a_container_has_of_its_own_is_shown_once_beside_its_guests(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "host", "sleep", "600")
    minirt.ok("cni", "add", "lab", "--container", "web", "-i", "eth5")
    minirt.ok("cni", "add", "lab", "--container", "web", "-i", "eth6")
    shown = minirt.inspect("web")["NetworkSettings"]["Networks"]
    assert {name: item["Interface"] for name, item in shown.items()} == {
        "lab": "eth0",
        "lab:eth5": "eth5",
        "lab:eth6": "eth6",
    }
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("lab")
def test_a_guest_that_cannot_be_detached_keeps_its_container_until_it_can(minirt: Command, scripted: Scripted) -> None:
    scripted.write("odd", ADD=[says(RESULT)], DEL=[fails(100, "not now"), fails(100, "not now"), Answer()])
    minirt.network("odd", {"type": "odd"})
    minirt.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "600")
    minirt.ok("cni", "add", "odd", "--container", "web")
    minirt.ok("stop", "-t0", "web")
    assert "not now" in minirt.fails(1, "rm", "web")
    minirt.ok("rm", "web")
    assert cached() == [] and minirt.machine.run("ip", "netns", "list").stdout.split() == ["box"]
