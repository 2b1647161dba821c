"""`minirt run --publish`, from the command line to the packets."""

from __future__ import annotations

from support.command import Command, bridge, serving

SERVERS = "busybox httpd -p 80 -h /etc; busybox httpd -p 81 -h /etc; exec busybox httpd -f -p 82 -h /etc"
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def test_a_range_of_ports_leads_to_a_range_of_ports(minirt: Command) -> None:
    minirt.machine.leaves("link cni-lab", "address * dev cni-lab")
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"), PORTMAP)
    minirt.ok("run", "-d", "--name", "web", "-p", "8080-8082:80-82", "-p", "53:53/udp", "host", "sh", "-c", SERVERS)
    name = minirt.ok("exec", "web", "hostname")
    for port in (8082, 8080, 8081):
        assert serving(minirt.machine, f"http://127.0.0.1:{port}/hostname").strip() == name
    identity = minirt.inspect("web")["Id"]
    error = minirt.fails(125, "run", "-p", "8081:1", "host", "true")
    assert f"8081/tcp is taken by container {identity[:12]} (network lab, eth0): choose another" in error
    minirt.ok("run", "--rm", "-p", "8081:1/udp", "-p", "53:53/sctp", "-p", "8083:80", "host", "true")
    minirt.ok("rm", "-f", "web")
    assert minirt.machine.elements() == []


def test_a_network_publishes_to_those_whom_its_list_names(minirt: Command) -> None:
    minirt.machine.leaves("link cni-lab", "address * dev cni-lab")
    terms = {"conditionsV4": ["-s", "127.0.0.0/8"], "markMasqBit": 7}
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24", hairpinMode=True), PORTMAP | terms)
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "host", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert serving(minirt.machine, "http://127.0.0.1:8080/hostname")
    minirt.ok("network", "reload", "web")
    assert serving(minirt.machine, "http://127.0.0.1:8080/hostname")
    refused = minirt.machine.run("curl", "-sS", "-m", "2", "http://10.50.0.1:8080/", check=False)
    assert refused.returncode == 7, "connection refused"
    minirt.ok("rm", "-f", "web")
    assert minirt.machine.elements() == []
    assert not [item for item in minirt.machine.nft() if "terms_" in item.get("chain", {}).get("name", "")]
