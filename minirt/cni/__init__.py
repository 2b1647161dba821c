"""The runtime's side of the contract, what libcni is to Go: which networks there are, and their plugins put to work.

The law of this folder: it knows no containers and can be used alone. An attachment is a network, an id that the caller
gives, the path of a network namespace and an interface's name. Plugins are met as executables; `executor` is the one
file that imports anything of `cni_plugins` but the wire (`cni_plugins.spec`).

    discovery   the network lists of /etc/cni/net.d, and the built-in one
    request     what a plugin is given: environment and standard input
    executor    where plugins are found and how they are started
    call        one call of a plugin: run, read its answer, say what was wrong with it
    inside      what a plugin tells of its own work to those who listen; standin: of its delegates, where it does not
    operations  ADD, DEL, CHECK, GC, STATUS and VERSION over a list, with their orders and failure rules
    cache       what was added, in libcni's own place and format
    locks       who waits for whom
"""
