"""What there is, drawn: networks as text, mermaid, dot and SVG; the way of a packet; namespaces compared.

Everything here looks and changes nothing (but for `counters`, which says so). pyroute2 and json are welcome: no other
verb imports this package.
"""
