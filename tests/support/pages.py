"""The plugins' pages (docs/plugins) and the course's (docs/course) as data, and the run of what they show.

A page's console blocks are one sitting of root in a shell: lines that begin with "# " are typed, "> " continues the
line above, the others are what it answers. Every line shown must be in what the command really says; `…` stands for
anything, and spaces count once. A plugin's example, configs/<type>.conflist, is the host's only network.

Below a block of the course stand its checks, `<!-- check WORDS`, lines with a question to the kernel each, `-->`: all
hold after the block, and not all of them did before it.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from support import house
from support.command import NETWORKS, PROGRAM, Command

FOLDER = house.TOP / "docs" / "plugins"
EXAMPLES = house.TOP / "configs"
ALSO = {"win-overlay": "win-bridge"}  # type -> whose page and example tell of it
SECOND_KERNEL = "<!-- second kernel -->"
COURSE = house.TOP / "docs" / "course"
_MARK = "=== line {}"
_PART = re.compile(r"^```console\n(.*?)^```|^<!-- check [^\n]+\n(.*?)^-->", re.MULTILINE | re.DOTALL)


@dataclass
class Typed:
    command: str
    shown: list[str] = field(default_factory=list)


def pages(second_kernel: bool = False) -> list[Path]:
    """Those whose example runs on the host's kernel, or on the second one."""
    return [path for path in sorted(FOLDER.glob("*.md")) if (SECOND_KERNEL in path.read_text()) == second_kernel]


def sitting(page: Path) -> list[Typed]:
    """What is typed, in order, each with what is shown below it; and the checks, as if typed."""
    lines: list[Typed] = []
    before = Typed("")
    for block, question in _PART.findall(page.read_text()):
        if question:
            after = Typed(_asked(question), ["yes"])
            before.command, before.shown = f"{before.command or 'true'} && {after.command}", ["no"]
            lines.append(after)
            continue
        lines.append(before := Typed(""))
        for line in block.splitlines():
            if line.startswith("# "):
                lines.append(Typed(line[2:]))
            elif line.startswith("> "):
                lines[-1].command += f"\n{line[2:]}"
            elif line.strip():
                lines[-1].shown.append(line)
    for line in lines:
        if line.shown in (["yes"], ["no"]):
            line.command = f"if {line.command}; then echo yes; else echo no; fi"
    return [line for line in lines if line.command]


def _asked(question: str) -> str:
    return f"( {' && '.join(question.splitlines())} ) </dev/null >/dev/null 2>&1"


def run(minirt: Command, page: Path, folder: Path = house.TOP) -> None:
    """Sit down in `folder` and type. Raises AssertionError for a command that fails, and for a line that did not
    come."""
    typed = sitting(page)
    assert typed, f"{house.name(page)} shows nothing"
    example = EXAMPLES / f"{page.stem}.conflist"
    NETWORKS.mkdir(parents=True)
    if example.exists():
        shutil.copy(example, NETWORKS)
    marked = "".join(f"printf '\\n{_MARK.format(number)}\\n'\n{line.command}\n" for number, line in enumerate(typed))
    path = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    done = minirt.machine.run(
        "bash", "-ec", f"exec 2>&1\n{marked}", cwd=str(folder), env=os.environ | {"PATH": path}, check=False
    )
    (NETWORKS / example.name).unlink(missing_ok=True)
    NETWORKS.rmdir()
    assert done.returncode == 0, f"exit {done.returncode} after:\n{done.stdout}"
    for number, line in enumerate(typed):
        real = done.stdout.partition(_MARK.format(number) + "\n")[2].partition("\n=== line ")[0]
        answered = [_plain(answer) for answer in real.splitlines()]
        for shown in line.shown:
            pattern = _pattern(_plain(shown))
            assert any(fnmatchcase(answer, pattern) for answer in answered), (
                f"{house.name(page)}: # {line.command}\nshown: {shown}\nreal:\n{real}"
            )


def _plain(line: str) -> str:
    return " ".join(line.split())


def _pattern(shown: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", shown).replace("…", "*")


def keys(page: Path) -> set[str]:
    """The plugin's own keys in the page's table: what stands in the first column as code, less what is inside them."""
    section = page.read_text().partition("## Keys")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
    words = {word for row in rows for word in re.findall(r"`(\w+)", row)}
    return {word for word in words if not word.isupper()}  # those of CNI_ARGS


def prose(page: Path) -> str:
    """What a page says between its title, blocks and comments, in one line."""
    text = re.sub(r"^```.*?^```$|^<!--.*?-->$|^# .*?$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return " ".join(text.split())
