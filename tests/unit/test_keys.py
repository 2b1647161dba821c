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
