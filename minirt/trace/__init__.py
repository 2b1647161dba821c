"""Every call of a plugin, written down while it happens, shown afterwards, and run again.

    recorder    events of a run in, lines of JSON out: `--trace FILE`
    fields      what the lines of such a file may hold
    reading     such a file as runs, calls, steps and answers
    tree, lines, mermaid, svg       what a person looks at: `minirt cni trace FILE`
    replay      recorded calls run again, perhaps by another program
    stage       where that happens: namespaces and a store of the replay's own, so that nothing of the host changes
    differences what came out otherwise

The law of this folder: `recorder` alone is loaded by those who record, and nothing of it by anybody else.
"""
