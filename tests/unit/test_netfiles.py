"""What a container reads in /etc about itself and its networks."""

from __future__ import annotations

from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.result import Dns as ToldDns
from cni_plugins.spec.result import Ip, Result
from minirt import netfiles
from minirt.spec import Dns

DUAL = Result(ips=(Ip(parse_cidr("10.1.0.2/24")), Ip(parse_cidr("fd00::2/64"))))
TOLD = Result(dns=ToldDns(("10.1.0.53",), "lan", ("a.lan", "b.lan"), ("ndots:2",)))
HOST = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch example.org\n"


def test_hosts_names_the_container_at_each_of_its_addresses() -> None:
    lines = netfiles.hosts("web.example", "web", [DUAL]).splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "10.1.0.2\tweb.example web" in lines
    assert "fd00::2\tweb.example web" in lines
    assert netfiles.hosts("web", "web", [DUAL]).endswith("fd00::2\tweb\n")


def test_what_was_asked_for_goes_before_what_the_network_says() -> None:
    text = netfiles.resolv_conf(Dns(("9.9.9.9",)), [TOLD], HOST)
    assert text == "nameserver 9.9.9.9\nsearch a.lan b.lan\noptions ndots:2\n"


def test_the_networks_servers_go_before_the_hosts() -> None:
    assert netfiles.resolv_conf(Dns(), [TOLD], HOST).startswith("nameserver 10.1.0.53\nsearch a.lan b.lan\n")


def test_a_domain_alone_is_searched_and_keeps_the_hosts_servers() -> None:
    text = netfiles.resolv_conf(Dns(), [Result(dns=ToldDns(domain="lan"))], HOST)
    assert text == "nameserver 192.0.2.53\nsearch lan\n"


def test_servers_on_the_hosts_loopback_are_left_out() -> None:
    text = netfiles.resolv_conf(Dns(), [DUAL], HOST)
    assert text == "# made by hand\nnameserver 192.0.2.53\nsearch example.org\n"
    assert netfiles.reachable("nameserver ::1\nnameserver fe80::1%eth0\n") == "nameserver fe80::1%eth0\n"


def test_resolved_is_asked_when_the_host_has_only_its_stub() -> None:
    stub, behind = "nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n"
    assert netfiles.of_host([stub, behind]) == behind
    assert netfiles.of_host([behind, stub]) == behind
    assert netfiles.of_host([stub]) == stub
    assert netfiles.of_host([]) == ""
