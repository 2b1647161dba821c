"""minirt plugin install"""

from __future__ import annotations

from minirt.cli.verb import Argument, Option, Verb
from minirt.cni import executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def install(values: dict[str, Any]) -> int:
    for path in executor.install(values["directory"] or executor.bundled(), force=values["force"]):
        print(path)
    return 0


INSTALL = Verb(
    "install",
    "Write the programs of the bundled CNI plugins into DIRECTORY (by default the folder where minirt looks first), "
    "for instance /opt/cni/bin for another runtime. Prints what it wrote.",
    install,
    (Option(("--force",), "Replace programs of the same name that are not ours."),),
    (Argument("directory", "[DIRECTORY]", required=False),),
)
