"""`--explain`: who does what while a container gets its network, and by which commands a person would do the same.

    account.py   what happens, as items: facts, commands, calls, answers; from the steps and events of a run
    glossary.py  what a command is for, and what shows what it did
    text.py      items for people: 100 columns, colours where the terminal wants them
    remote.py    the account of an end that another process carries out
    foreign.py   what a plugin has changed whose inside nobody can see
    beside.py    the steps of process 1, which prepares itself meanwhile
    pause.py     `--step`: a stop before each step
    story.py     the account for those who look on in a browser

Nothing of this is imported unless somebody asks.
"""
