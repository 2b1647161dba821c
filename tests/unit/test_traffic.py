"""Traffic control's requests as pyroute2 reads them, and the steps' commands as `tc` takes them; without a kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from cni_plugins.bandwidth import Config, configure, steps
from cni_plugins.sdk import traffic
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.netlink import Message, frame
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtnl import Link
from cni_plugins.sdk.traffic import Bucket, Divert, Limit
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError

ACK, CREATE, EXCL = 4, 0x400, 0x200


def decoded(message: Message) -> Any:
    read = tcmsg(frame(message, 7))
    read.decode()
    assert read["header"]["length"] == len(frame(message, 7))
    assert read["header"]["flags"] & ~1 == message.flags
    return read


def test_a_bucket_is_a_tbf_at_the_root() -> None:
    read = decoded(traffic.bucket_add(3, Bucket(1000, 10)))
    assert (read["index"], read["handle"], read["parent"]) == (3, 0x10000, 0xFFFFFFFF)
    assert read.get_attr("TCA_KIND") == "tbf"
    options = read.get_attr("TCA_OPTIONS")
    parameters = options.get_attr("TCA_TBF_PARMS")
    assert {key: parameters[key] for key in ("rate", "limit", "buffer", "peak", "mtu")} == {
        "rate": 1000,
        "limit": 35,  # 25 ms of sending, and the burst
        "buffer": 156250,  # 10 ms in ticks of 64 ns
        "peak": 0,
        "mtu": 0,
    }
    assert [name for name, _value in options["attrs"]] == ["TCA_TBF_PARMS"]


def test_what_32_bits_do_not_hold_is_told_in_attributes_of_its_own() -> None:
    """pyroute2 knows neither of them; what the kernel makes of them is seen in tests/netns/test_bandwidth.py."""
    for bucket, rate in ((Bucket(2**33, 2**31), 2**32 - 1), (Bucket(1000, 2**31), 1000)):
        options = decoded(traffic.bucket_add(3, bucket)).get_attr("TCA_OPTIONS")
        assert options.get_attr("TCA_TBF_PARMS")["rate"] == rate
        assert len(options["attrs"]) == 2
    long = Bucket(1000, 2**31)
    assert long.alike(1000, long.limit, (long.ticks + 5) % 2**32)
    assert not long.alike(1000, long.limit - 1, long.ticks % 2**32)
    assert not Bucket(1000, 10).alike(1000, 35, 156251)


@pytest.mark.parametrize(
    ("bucket", "ticks"), [(Bucket(1000, 10), 156250), (Bucket(3, 10), 52083328), (Bucket(125_000_000, 1), 0)]
)
def test_a_burst_is_counted_in_whole_microseconds_first(bucket: Bucket, ticks: int) -> None:
    assert bucket.ticks == ticks


def test_the_way_through_another_link() -> None:
    read = decoded(traffic.ingress_add(3))
    assert (read["handle"], read["parent"], read.get_attr("TCA_KIND")) == (0xFFFF0000, 0xFFFFFFF1, "ingress")
    read = decoded(traffic.redirect_add(3, 9))
    assert (read["parent"], read["info"], read.get_attr("TCA_KIND")) == (0xFFFF0000, 1 << 16 | 0x0300, "u32")
    options = read.get_attr("TCA_OPTIONS")
    assert options.get_attr("TCA_U32_CLASSID") == 0x10001
    selector = options.get_attr("TCA_U32_SEL")
    assert (selector["flags"], selector["nkeys"]) == (1, 1)
    assert {key: selector["keys"][0][key] for key in ("key_mask", "key_val", "key_off")} == {
        "key_mask": 0,
        "key_val": 0,
        "key_off": 0,
    }
    action = options.get_attr("TCA_U32_ACT").get_attr("TCA_ACT_PRIO_1")
    assert action.get_attr("TCA_ACT_KIND") == "mirred"
    mirred = action.get_attr("TCA_ACT_OPTIONS").get_attr("TCA_MIRRED_PARMS")
    assert (mirred["action"], mirred["eaction"], mirred["ifindex"]) == (4, 1, 9)


def test_questions_and_deletions_name_what_they_are_about() -> None:
    asked = {
        "root_get": (traffic.root_get(3), 38, 0, 0xFFFFFFFF),
        "filters_dump": (traffic.filters_dump(3), 46, 0, 0xFFFF0000),
        "bucket_delete": (traffic.bucket_delete(3), 37, 0x10000, 0xFFFFFFFF),
        "ingress_delete": (traffic.ingress_delete(3), 37, 0xFFFF0000, 0xFFFFFFF1),
    }
    for message, kind, handle, parent in asked.values():
        read = decoded(message)
        assert (message.kind, read["index"], read["handle"], read["parent"]) == (kind, 3, handle, parent)


def request(**conf: Any) -> Request:
    fields = dict.fromkeys(Request.__match_args__, "")
    fields |= {"network": "net", "container_id": "web", "ifname": "eth0", "conf": View(conf)}  # type: ignore[dict-item]
    return Request(**fields)  # type: ignore[arg-type]


def test_steps_say_what_a_person_would_type() -> None:
    config = Config(Bucket(1000, 2000), Bucket(3000, 4000))
    found = steps(request(), config, Namespace(), Link(7, "veth0", mtu=1500))
    said = "\n".join(step.describe() for step in found).splitlines()
    ifb = said[0].split()[3]
    assert len(ifb) == 15
    assert [line.replace(ifb, "IFB") for line in said] == [
        f"ip link add IFB address {said[0].split()[5]} mtu 1500 type ifb",
        "ip link set IFB up alias 'cni net web eth0'",
        "tc qdisc add dev IFB root handle 1: tbf rate 3000bps burst 4000b limit 4075b",
        "tc qdisc add dev veth0 ingress",
        "tc filter add dev veth0 parent ffff: protocol all pref 1 u32 match u32 0 0 flowid 1:1"
        " action mirred egress redirect dev IFB",
        "tc qdisc add dev veth0 root handle 1: tbf rate 1000bps burst 2000b limit 2025b",
    ]
    assert Limit(Namespace("/run/netns/box"), "a b", Bucket(1, 2)).describe() == (
        "ip netns exec box tc qdisc add dev 'a b' root handle 1: tbf rate 1bps burst 2b limit 2b"
    )
    assert len(Divert(Namespace(), "a", "b").describe().splitlines()) == 2


def test_one_direction_needs_no_more_than_it_needs() -> None:
    end = Link(7, "veth0", mtu=1500)
    assert len(steps(request(), Config(ingress=Bucket(1000, 2000)), Namespace(), end)) == 1
    assert len(steps(request(), Config(egress=Bucket(1000, 2000)), Namespace(), end)) == 3
    assert steps(request(), Config(), Namespace(), end) == []


@pytest.mark.parametrize(
    ("conf", "config"),
    [
        ({}, Config()),
        ({"ingressRate": 8000, "ingressBurst": 80}, Config(ingress=Bucket(1000, 10))),
        ({"ingressRate": 0, "runtimeConfig": {"bandwidth": {"egressRate": 8, "egressBurst": 8}}}, Config()),
        ({"runtimeConfig": {"bandwidth": {"egressRate": 17, "egressBurst": 8}}}, Config(egress=Bucket(2, 1))),
    ],
)
def test_bits_become_bytes(conf: dict[str, Any], config: Config) -> None:
    assert configure(View(json.loads(json.dumps(conf)))) == config


@pytest.mark.parametrize("rate", [-1, 2**64, 7])
def test_a_rate_that_cannot_be_is_refused(rate: int) -> None:
    with pytest.raises(CniError, match="ingressRate"):
        configure(View({"ingressRate": rate, "ingressBurst": 800}))
