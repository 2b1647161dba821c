"""The plugins' pages (docs/plugins) as data, and the run of what they show.

A page's console blocks are one sitting of root in a shell: lines that begin with "# " are typed, "> " continues the
line above, the others are what it answers. Every line shown must be in what the command really says; `…` stands for
anything, and spaces count once. The example's list, configs/<type>.conflist, is the host's only network.
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
_MARK = "=== line {}"


@dataclass
class Typed:
    command: str
    shown: list[str] = field(default_factory=list)


def pages(second_kernel: bool = False) -> list[Path]:
    """Those whose example runs on the host's kernel, or on the second one."""
    return [path for path in sorted(FOLDER.glob("*.md")) if (SECOND_KERNEL in path.read_text()) == second_kernel]


def sitting(page: Path) -> list[Typed]:
    """What is typed, in order, each with what is shown below it."""
    lines: list[Typed] = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("# "):
                lines.append(Typed(line[2:]))
            elif line.startswith("> "):
                lines[-1].command += f"\n{line[2:]}"
            elif line.strip():
                lines[-1].shown.append(line)
    return lines


def run(minirt: Command, page: Path) -> None:
    """Sit down and type. Raises AssertionError for a command that fails, and for a line that did not come."""
    typed = sitting(page)
    assert typed, f"{house.name(page)} shows nothing"
    example = EXAMPLES / f"{page.stem}.conflist"
    NETWORKS.mkdir(parents=True)
    shutil.copy(example, NETWORKS)
    marked = "".join(f"echo '{_MARK.format(number)}'\n{line.command}\n" for number, line in enumerate(typed))
    path = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    done = minirt.machine.run(
        "bash", "-ec", f"exec 2>&1\n{marked}", cwd=str(house.TOP), env=os.environ | {"PATH": path}, check=False
    )
    (NETWORKS / example.name).unlink()
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
