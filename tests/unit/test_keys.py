"""Keys of a configuration: a slip of the pen is told, a stranger's key is none of our business."""

from __future__ import annotations

import pytest

from cni_plugins.sdk import keys
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, CniError

KNOWN = ("bridge", "isGateway", "ipMasq", "ipMasqBackend", "mtu", "vlan")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("isGatway", "isGateway"),  # one less
        ("isGatewayy", "isGateway"),
        ("isGatewax", "isGateway"),
        ("isGatewya", "isGateway"),
        ("is_gateway", "isGateway"),
        ("IPMASK", "ipMasq"),
        ("ipma", "ipam"),
        ("vlans", "vlan"),
        ("ip-masq-backend", "ipMasqBackend"),
        ("vla", "vlan"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_its_path(key: str, meant: str) -> None:
    with pytest.raises(CniError) as told:
        keys.refuse_near_misses(View({"type": "bridge", key: True}, "plugins[0]"), KNOWN)
    assert (told.value.code, told.value.msg) == (INVALID_CONFIG, f"plugins[0].{key}: unknown key")
    assert told.value.details == f"did you mean {meant}?"


@pytest.mark.parametrize(
    "key",
    ["ISGATEWAY", "ipmasq", "//", "comment", "cni.dev/valid-attachments", "mtv", "dn", "bridges-of-ours", "our-vlan"],
)
def test_P4_keys_that_are_ours_in_other_letters_and_those_of_others_pass(key: str) -> None:
    keys.refuse_near_misses(View({"type": "bridge", key: 1}), KNOWN)


@pytest.mark.parametrize(
    ("key", "meant"), [("advms", "advmss"), ("prority", "priority"), ("gateway", "gw"), ("metric", "priority")]
)
def test_a_slip_in_a_route_is_told_with_its_path(key: str, meant: str) -> None:
    view = View({"routes": [{"dst": "10.0.0.0/8"}, {"dst": "10.0.0.0/8", key: 1}]}, "ipam")
    with pytest.raises(CniError) as told:
        keys.routes(view)
    assert (told.value.code, told.value.msg) == (INVALID_CONFIG, f"ipam.routes[1].{key}: unknown key")
    assert told.value.details == f"did you mean {meant}?"


def test_a_slip_in_dns_is_told_with_its_path() -> None:
    with pytest.raises(CniError, match=r"^dns\.nameserver: unknown key"):
        keys.refuse_near_misses(View({"dns": {"nameserver": ["192.0.2.1"]}}), KNOWN)
