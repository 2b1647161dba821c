"""Networks made by `minirt network create`, in the hands of runtimes that know nothing of it."""

from __future__ import annotations

import json

from support.command import FURNITURE, Command
from support.peers import GO_PLUGINS, Podman, containerd

GO_LEAVES = ("file /etc/cni/net.d/*", "link cni-*", "address * dev cni-*", "nft * nat*", "nft * filter*")


def test_podman_joins_a_created_network_and_shows_it(minirt: Command) -> None:
    minirt.machine.leaves(*GO_LEAVES, *FURNITURE)
    podman = Podman(minirt.machine, [GO_PLUGINS])
    minirt.ok("network", "create", "--ipv6", "--label", "team=net", "--subnet", "10.9.0.0/24", "blue")
    shown = podman("run", "--rm", "--network", "blue", "box", "ip", "addr", "show", "eth0").stdout
    assert "inet 10.9.0.2/24" in shown and "inet6 fd" in shown
    (network,) = json.loads(podman("network", "inspect", "blue").stdout)
    assert network["driver"] == "bridge"
    assert network["subnets"][0]["subnet"] == "10.9.0.0/24"


def test_whoever_has_no_other_list_takes_a_created_network_for_the_default(minirt: Command) -> None:
    """Of which `create` has told."""
    minirt.machine.leaves(*GO_LEAVES, *FURNITURE)
    done = minirt("network", "create", "--subnet", "10.9.0.0/24", "blue")
    assert "other runtimes take the first list" in done.stderr
    with containerd(minirt.machine, GO_PLUGINS) as ctr:
        assert "inet 10.9.0.2/24" in ctr.run("one", "/bin/ip", "addr", "show", "eth0").stdout
        minirt.network("mine", {"type": "loopback"})
        assert "10.9.0." not in ctr.run("two", "/bin/ip", "addr").stdout
