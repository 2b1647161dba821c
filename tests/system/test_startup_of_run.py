"""Start-up is the cost: the modules that `minirt run` has imported when it calls its first plugin, and at its end; and
those of the verbs that only look.

A plugin that is a shell script keeps what the interpreter has named until then (`-X importtime`, on standard error).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import leftovers
from support.command import Command
from support.house import within
from support.startup import C_MODULES, MINIRT, PYTHON, bare, budget, names

LOG = Path("/run/imports")
PLUGIN = f"""#!/bin/sh
[ "$CNI_COMMAND" = ADD ] && cp {LOG} {LOG}.first && echo '{{"cniVersion": "1.0.0"}}'
exit 0
"""

# Our own modules until the first plugin, and until the end with a network of our own plugins. Process 1 is prepared
# beside the first plugin and names its modules in the same place: two of them come a little sooner or later.
UNTIL_PLUGIN, UNTIL_END = 67, 89
LOOKING = 23


def _imported(*words: str) -> set[str]:
    """What `minirt run --rm …` imports."""
    return _imports("run", "--rm", *words)


def _imports(*words: str) -> set[str]:
    with LOG.open("w") as log:
        argv = [PYTHON, "-IS", "-X", "importtime", "-c", MINIRT, *words]
        subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=log, timeout=60, check=True)
    return names(LOG.read_text(encoding="utf-8")) - bare()


@pytest.mark.leaves(f"file {LOG}*", "file /run/scripted/*")
def test_what_run_imports_until_its_first_plugin_is_in_the_budget(
    minirt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("/run/scripted").mkdir()
    Path("/run/scripted/keep").write_text(PLUGIN, encoding="utf-8")
    Path("/run/scripted/keep").chmod(0o755)
    minirt.network("scripted", {"type": "keep"})
    monkeypatch.setenv("CNI_PATH", "/run/scripted")
    _imported("host", "true")
    first = names(Path(f"{LOG}.first").read_text(encoding="utf-8")) - bare()
    assert budget(first, C_MODULES, UNTIL_PLUGIN) == []


# What tells of a run: nothing of it is imported without a flag, and this with one. Plugins are forked from the run, and
# name here what they import besides.
TELLING = ("minirt.explain", "minirt.trace", "minirt.web", "minirt.cni.inside", "cni_plugins.sdk.narration")
EXPLAIN = {
    "cni_plugins.sdk.narration",
    *("minirt.cni.inside", "minirt.cni.words", "minirt.terminal", "minirt.visible"),
    *(f"minirt.explain{name}" for name in ("", ".account", ".asked", ".beside", ".glossary", ".text")),
}


@pytest.mark.leaves(f"file {LOG}*", *leftovers.SHARED)
@pytest.mark.usefixtures("minirt")
def test_what_tells_of_a_run_is_imported_when_it_is_asked_for() -> None:
    untold = _imported("-q", "host", "true")
    assert {name for name in untold if within(name, *TELLING)} == set()
    told = _imported("-q", "--explain", "host", "true")
    assert told - untold == EXPLAIN


@pytest.mark.leaves(f"file {LOG}*", *leftovers.SHARED)
@pytest.mark.usefixtures("minirt")
def test_what_a_whole_run_imports_is_in_the_budget() -> None:
    assert budget(_imported("-q", "-p", "8080:80", "host", "true"), C_MODULES, UNTIL_END) == []


@pytest.mark.leaves(f"file {LOG}*")
@pytest.mark.parametrize("words", [("ps", "-a"), ("ps", "--format", "json"), ("inspect", "web"), ("logs", "web")])
def test_who_only_looks_imports_nothing_that_running_needs(minirt: Command, words: tuple[str, ...]) -> None:
    minirt.ok("run", "--name", "web", "--network", "none", "host", "true")
    assert budget(_imports(*words), C_MODULES, LOOKING) == []
    minirt.ok("rm", "web")
