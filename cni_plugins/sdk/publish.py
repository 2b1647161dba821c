"""Publishing an attachment's ports, and taking them back: the steps and the check. For GC there is `unrecorded`.

Whose an element is stands in its comment, and what the attachment publishes in a record, so DEL needs neither result
nor namespace, lists nothing, and leaves alone what somebody else has put in the same place since. A port that another
container holds is refused by the kernel, of whose answer the error is made. Only a port of one host address against
the same port of all of them is for us to see: the few attachments that have the former are noted by port (`Shares`).
"""

from __future__ import annotations

import os
from errno import EBUSY, EEXIST

from cni_plugins.sdk.main import warn
from cni_plugins.sdk.naming import comment, holder, of_container, told
from cni_plugins.sdk.nfnl import Change, Nftables, Refused
from cni_plugins.sdk.nft import run_nft
from cni_plugins.sdk.ports import TABLE, Mapping, Publication, from_json, to_json
from cni_plugins.sdk.records import ROOT, AttachmentRecords, Owner
from cni_plugins.sdk.shares import Shares
from cni_plugins.sdk.subnets import Subnets
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cni_plugins.sdk.conntrack import Flow
    from cni_plugins.sdk.elements import Element
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.sdk.terms import Terms
    from cni_plugins.spec.ip import Address

SUBNETS = Subnets("portmap", TABLE.name, inside=2)
SINGLE = Shares("portmap", "single-addresses")  # who publishes a port at one address of the host, by port
CHAINS = Shares("portmap", "terms")  # who publishes under which terms

_FLUSHED = "somebody has flushed it; connect the container anew"
_CHOOSE = "choose another host port"
_FORGET = "conntrack -D -p udp"


@record
class Publish(Step):
    """Publish all of it or nothing. `apply` raises CniError when a port is taken, OSError when the kernel refuses."""

    nftables: Nftables
    publication: Publication

    def describe(self) -> str:
        there = self.nftables.rules(TABLE.name)
        table = [] if there else [f"nft '{TABLE}'"]
        chains = [f"nft '{line}'" for terms in self._without_chain(there) for line in terms.commands(TABLE.name)]
        changes = (*SUBNETS.additions(self.publication.subnets), *self._creations())
        return "\n".join([*table, *chains, *map(str, changes)])

    def _creations(self) -> list[Change]:
        return [Change("create", element) for element in self.publication.elements()]

    def apply(self) -> None:
        wanted = self.publication
        records = AttachmentRecords("portmap", wanted.network)
        if os.path.lexists(records.path(wanted.owner)):
            hint = "it must be deleted before it is added again"
            raise CniError(PLUGIN_SPECIFIC, f"{wanted.owner} of network {wanted.network} publishes ports already", hint)
        try:
            # The record first: a crash leaves nothing that it does not account for.
            records.save(wanted.owner, to_json(wanted))
            for thing in _single_addresses(wanted):
                SINGLE.join(thing, wanted.network, wanted.owner)
            with SUBNETS.locked():
                SUBNETS.join(wanted.subnets, wanted.network, wanted.owner)
                for terms in wanted.terms:
                    CHAINS.join(terms.chain, wanted.network, wanted.owner)
                self._make_chains()
                self._add()
            _refuse_shadows(self.nftables, wanted)
        except BaseException:
            self.undo()
            raise

    def _make_chains(self) -> None:
        """The chains of our terms, where they are not there yet."""
        if not self.publication.terms:
            return
        there = self.nftables.rules(TABLE.name)
        if not there:
            TABLE.make(self.nftables, restore=self._others)
        for terms in self._without_chain(there):
            _make_chain(terms)

    def _without_chain(self, there: Sequence[str]) -> Iterator[Terms]:
        """Those of our terms whose chain lacks rules; `there` has the chain of each rule of the table."""
        return (terms for terms in self.publication.terms if there.count(terms.chain) < len(terms.rules))

    def _add(self) -> None:
        shared = SUBNETS.additions(self.publication.subnets)
        changes = self._creations()
        try:
            TABLE.commit(self.nftables, *shared, *changes, restore=self._others)
        except Refused as refused:
            overlap = SUBNETS.overlap(self.publication.subnets, self.publication.network)
            if overlap is not None:
                raise overlap from None
            TABLE.commit(self.nftables, *shared, *self._around(refused, changes))

    def _around(self, refused: Refused, changes: list[Change]) -> Iterator[Change]:
        """`changes` without what stands in their way. Raises CniError where that has a right to be there."""
        reasons = {id(change): error for change, error in refused.refusals}
        for change in changes:
            error = reasons.get(id(change))
            if error and error.errno not in (EEXIST, EBUSY):
                raise refused
            stored = self.nftables.lookup(change.element)[0] if error else None
            if stored is None:
                yield change
            elif not change.element.value and not change.element.jump:
                # About an address that IPAM has given to us: whoever left this has it no more.
                yield Change("delete", change.element)
                yield change
            elif not of_container(stored.comment, self.publication.container_id):
                raise _taken(change.element, stored.comment)
            # else another interface of our container has it: one is enough, and the first serves

    def _others(self) -> Iterator[Change]:
        """What everybody else publishes."""
        for other in publications(self.publication):
            for terms in other.terms:
                _make_chain(terms)
            yield from (Change("add", element) for element in other.elements())
            yield from SUBNETS.additions(other.subnets)

    def opposite(self) -> Step | None:
        return Unpublish(self.nftables, self.publication.network, self.publication.owner)


@record
class Unpublish(Step):
    """Take back what an attachment publishes, and have the kernel forget the UDP flows to it. Fine if there is none.

    The kernel has done so when `apply` returns; that wait for which the socket's close is known is not begun.
    """

    nftables: Nftables
    network: str
    owner: Owner

    def describe(self) -> str:
        records = AttachmentRecords("portmap", self.network)
        if not os.path.lexists(records.path(self.owner)):
            return ""
        publication = _load(records, self.network, self.owner)
        if publication is None:
            return f"# nft delete element inet {TABLE.name} …, for all with comment {self.comment!r}"
        return "\n".join(self._commands(publication))

    def _commands(self, publication: Publication) -> Iterator[str]:
        from cni_plugins.sdk.terms import removal as chain_removal

        unused = SUBNETS.only(publication.subnets, self.network, self.owner)
        for change in (*self._deletions(publication.elements()), *SUBNETS.removals(self.nftables, unused)):
            yield str(Change("delete", replace(change.element, value=(), comment="", jump="")))
        for terms in publication.terms:
            if CHAINS.only(terms.chain, self.network, self.owner):
                yield f"nft '{chain_removal(TABLE.name, terms.chain)}'"
        flows = _answered(self.nftables, _udp(publication))
        yield from dict.fromkeys(
            f"{_FORGET} --orig-port-dst {flow.port} --reply-src {flow.answered_by}" for flow in flows
        )

    @property
    def comment(self) -> str:
        return comment(self.network, self.owner.container_id, self.owner.ifname)

    def apply(self) -> None:
        records = AttachmentRecords("portmap", self.network)
        if not os.path.lexists(records.path(self.owner)):
            return
        publication = _load(records, self.network, self.owner)
        if publication is None:
            from cni_plugins.sdk import unrecorded  # as good as never

            unrecorded.sweep(self)
        else:
            self._take_back(publication)
        records.delete(self.owner)

    def _take_back(self, publication: Publication) -> None:
        with SUBNETS.locked():
            unused = SUBNETS.leave(publication.subnets, self.network, self.owner)
            removals = SUBNETS.removals(self.nftables, unused)
            self.nftables.commit(*self._deletions(publication.elements()), *removals)
            self.leave_chains(terms.chain for terms in publication.terms)
        for thing in _single_addresses(publication):
            SINGLE.leave(thing, self.network, self.owner)
        forget_flows(self.nftables, _udp(publication))

    def leave_chains(self, chains: Iterable[str]) -> None:
        """Those that nobody else uses go, too. To be called under the lock of SUBNETS."""
        for chain in chains:
            if CHAINS.leave(chain, self.network, self.owner) and chain in self.nftables.rules(TABLE.name):
                _remove_chain(chain)

    def _deletions(self, elements: list[Element]) -> Iterator[Change]:
        """What takes away those of `elements` that bear our comment."""
        for element, stored in zip(elements, self.nftables.lookup(*elements), strict=True):
            if stored is not None and stored.comment == self.comment:
                yield Change("delete", element)


@record
class ForgetFlows(Step):
    """Have the kernel forget the UDP flows to this host's ports that were decided before the ports were published."""

    nftables: Nftables
    host: Namespace
    publication: Publication

    def describe(self) -> str:
        try:
            flows = self._stray()
        except OSError:
            return ""
        return "\n".join(
            dict.fromkeys(f"{_FORGET} --orig-dst {flow.dst} --orig-port-dst {flow.port}" for flow in flows)
        )

    def apply(self) -> None:
        from cni_plugins.sdk import conntrack  # for UDP alone

        try:
            conntrack.forget(self.nftables.netlink, self._stray())
        except OSError as error:
            warn(f"portmap: clients that send already may have to pause: cannot read the flows: {error}")

    def _stray(self) -> list[Flow]:
        pairs = [(item, target) for item, target in self.publication.pairs() if item.protocol == "udp"]
        by_family: dict[int, list[Mapping]] = {}
        for item, target in pairs:
            by_family.setdefault(target.address.family, []).append(item)
        return [flow for family in sorted(by_family) for flow in self._stray_of(family, by_family[family])]

    def _stray_of(self, family: int, mappings: list[Mapping]) -> list[Flow]:
        from cni_plugins.sdk import conntrack

        flows = conntrack.udp_flows(self.nftables.netlink, family, {item.host_port for item in mappings})
        anywhere = {item.host_port for item in mappings if item.only_at is None}
        at_one = {(item.only_at, item.host_port) for item in mappings}
        stray = [flow for flow in flows if flow.port in anywhere or (flow.dst, flow.port) in at_one]
        local = {dst for dst in {flow.dst for flow in stray} if (way := self.host.rtnl.way_to(dst)) and way.local}
        return [flow for flow in stray if flow.dst in local]


def check(nftables: Nftables, publication: Publication) -> None:
    """Raises CniError when something that publishes it is not there."""
    if _load(AttachmentRecords("portmap", publication.network), publication.network, publication.owner) is None:
        raise CniError(PLUGIN_SPECIFIC, f"{publication.owner} publishes no ports", "its record is missing")
    shared = SUBNETS.elements(publication.subnets)
    elements = [*publication.elements(), *shared]
    for element, stored in zip(elements, nftables.lookup(*elements), strict=True):
        if stored is None:
            raise CniError(PLUGIN_SPECIFIC, f"nftables: inet {TABLE.name} {element} is missing", _FLUSHED)
        ours = stored.comment == publication.comment or element in shared
        if not ours and not of_container(stored.comment, publication.container_id):
            raise _taken(element, stored.comment)
        if ours and not stored.fits(element):
            raise CniError(PLUGIN_SPECIFIC, f"nftables: inet {TABLE.name} has another value for {element}")
    rules = nftables.rules(TABLE.name) if publication.terms else []
    if any(rules.count(terms.chain) < len(terms.rules) for terms in publication.terms):
        raise CniError(PLUGIN_SPECIFIC, f"nftables: rules of table inet {TABLE.name} are missing", _FLUSHED)
    TABLE.require(nftables, hint=_FLUSHED)


def publications(but: Publication) -> Iterator[Publication]:
    """What every attachment of every network publishes, less one: its cost grows with the host."""
    folder = os.path.join(ROOT, "portmap")
    for network in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        records = AttachmentRecords("portmap", network)
        for owner in records.owners():
            ours = (network, owner) == (but.network, but.owner)
            publication = None if ours else _load(records, network, owner)
            if publication is not None:
                yield publication


def _load(records: AttachmentRecords, network: str, owner: Owner) -> Publication | None:
    """What the attachment's record says. One that says nothing is as good as none, but not passed over in silence."""
    document = records.load(owner)
    try:
        if document is not None:
            return from_json(View(document), network, owner)
        problem = "it is damaged" if os.path.lexists(records.path(owner)) else ""
    except CniError as error:
        problem = str(error)
    if problem:
        warn(f"portmap: {records.path(owner)} does not tell what {owner} publishes: {problem}")
    return None


# --- chains of terms --------------------------------------------------------------------------------------------------


def _make_chain(terms: Terms) -> None:
    """Raises CniError where nft does not understand the terms."""
    problem = run_nft("".join(f"{line}\n" for line in terms.commands(TABLE.name)))
    if problem:
        raise CniError(INVALID_CONFIG, f"conditionsV{terms.family}: nft refuses {terms.condition!r}: {problem}")


def _remove_chain(chain: str) -> None:
    """It is nobody's any more. Where it cannot be removed it does no harm."""
    from cni_plugins.sdk.terms import removal

    try:
        problem = run_nft(removal(TABLE.name, chain))
    except CniError as error:
        problem = str(error)
    if problem:
        warn(f"portmap: chain {chain} of nftables table inet {TABLE.name} is left: {problem}")


# --- conflicts --------------------------------------------------------------------------------------------------------


def _thing(mapping: Mapping, family: int) -> str:
    return f"{mapping.protocol}-{mapping.host_port}-ipv{family}"


def _single_addresses(publication: Publication) -> list[str]:
    pairs = publication.pairs()
    return [_thing(mapping, target.address.family) for mapping, target in pairs if mapping.only_at is not None]


def _refuse_shadows(nftables: Nftables, publication: Publication) -> None:
    """Raises CniError when a port is published at all addresses by one container and at one of them by another.

    Both put down what they want before they look for the other, so of two that come at once one sees the other.
    """
    singles = os.path.exists(SINGLE.folder)  # asked once, for there may be tens of thousands of ports
    for mapping, target in publication.pairs():
        if mapping.only_at is None:
            if singles:
                _refuse_single(mapping, target.family, publication)
        else:
            element = publication.in_map(replace(mapping, host_ip=None), target)
            (stored,) = nftables.lookup(element)
            if stored is not None and not of_container(stored.comment, publication.container_id):
                raise _taken(element, stored.comment)


def _refuse_single(mapping: Mapping, family: int, publication: Publication) -> None:
    for network, owner in SINGLE.users(_thing(mapping, family)):
        if owner.container_id != publication.container_id:
            who = told(network, owner.container_id, owner.ifname)
            raise CniError(PLUGIN_SPECIFIC, f"{mapping} is taken by {who} at one of this host's addresses", _CHOOSE)


def _taken(element: Element, comment: str) -> CniError:
    *at, protocol, port = (field.words for field in element.key)
    place = f" of {at[0]}" if at else ""
    removal = Change("delete", replace(element, value=(), comment=""))
    return CniError(
        PLUGIN_SPECIFIC,
        f"host port {port}/{protocol}{place} is taken by {holder(comment)}",
        f"{_CHOOSE}; should that container be gone: {removal}",
    )


# --- UDP flows --------------------------------------------------------------------------------------------------------


def forget_flows(nftables: Nftables, published: set[tuple[Address, int]]) -> None:
    """Those that a container answers: their next packets must not be sent to an address that is nobody's.

    `published` are pairs of a container's address and a port of the host that leads there.
    """
    flows = _answered(nftables, published)
    if not flows:
        return
    from cni_plugins.sdk import conntrack

    try:
        conntrack.forget(nftables.netlink, flows)
    except OSError as error:
        warn(f"portmap: clients that send still may have to pause: cannot forget the flows: {error}")


def _answered(nftables: Nftables, published: set[tuple[Address, int]]) -> list[Flow]:
    if not published:
        return []
    from cni_plugins.sdk import conntrack  # for UDP alone

    addresses, ports = {address for address, _port in published}, {port for _address, port in published}
    families = {address.family for address in addresses}
    try:
        flows = [conntrack.udp_flows(nftables.netlink, family, ports) for family in sorted(families)]
    except OSError as error:
        warn(f"portmap: clients that send still may have to pause: cannot read the flows: {error}")
        return []
    return [flow for found in flows for flow in found if flow.answered_by in addresses]


def _udp(publication: Publication) -> set[tuple[Address, int]]:
    """Who answers at which port of the host."""
    pairs = publication.pairs()
    return {(target.address, mapping.host_port) for mapping, target in pairs if mapping.protocol == "udp"}
