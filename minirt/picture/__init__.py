"""What there is, drawn: networks as text, mermaid, dot and SVG; the way of a packet.

    kernel                      one network namespace: links, addresses, routes, neighbours
    ruleset, matching, …        the rules of nftables in one, and which of them a packet meets
    survey, model               the picture as data: this host and its containers
    text, scheme, svg           that picture drawn; `drawing` is the one call for all formats
    path, telling, counters     a packet's way through it, told, and counted

Everything here looks and changes nothing (but for `counters`, which says so). pyroute2 and json are welcome, so this
package is loaded by those who look alone: `minirt network graph`, `minirt network path` and `minirt serve`.
"""
