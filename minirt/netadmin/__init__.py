"""Networks as people look after them: the library behind `minirt network`.

    spec      what a new network is asked to be, read from docker-shaped flags
    drivers   from that to a network list: one table of drivers, options and IPAM plugins
    subnets   which parts of the address space are taken, and a free one
    hostnet   the host's own links, addresses and routes
    catalog   the lists of the folder with who is attached; create, remove, prune
    report    networks as documents, in docker's words
    reload    what plugins keep on the host for a running container, made anew after somebody flushed it

A network is its list in /etc/cni/net.d and nothing else: what this folder knows beside it stands in the list itself,
under a key that no plugin is shown.
"""
