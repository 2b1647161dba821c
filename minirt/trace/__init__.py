"""Every call of a plugin, written down while it happens, and shown afterwards.

    recorder    events of a run in, lines of JSON out: `--trace FILE`
    reading     such a file as runs, calls, steps and answers
    tree, lines, mermaid, svg       what a person looks at: `minirt cni trace FILE`

The law of this folder: `recorder` alone is loaded by those who record, and nothing of it by anybody else.
"""
