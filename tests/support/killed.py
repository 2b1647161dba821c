"""ADDs that are killed in the middle: at each system call in turn that changes something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from support.plugins import Plugins

CALLS = ("sendto", "write", "link", "linkat", "rename", "mkdir", "rmdir", "unlink")  # netlink, sysctls, files, folders


def adds(plugins: Plugins, conf: dict[str, Any], netns: str, ifname: str = "eth0") -> Iterator[str]:
    """Kill an ADD at the first of each call, at the second, and so on; what each was killed at is told when it is dead.

    After each the caller cleans up. The last of each call comes to its end, which tells that there are no more.
    """
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": netns, "CNI_IFNAME": ifname}
    env |= {"CNI_PATH": plugins.folder, "PATH": "/usr/sbin:/usr/bin"}
    for call in CALLS:
        number, alive = 0, False
        while not alive:
            number += 1
            kill = f"inject={call}:signal=KILL:when={number}"
            strace = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", kill)
            program = f"{plugins.folder}/{conf['type']}"
            add = plugins.machine.run(*strace, program, input=json.dumps(conf), env=env, check=False)
            alive = add.returncode == 0
            assert alive or not add.stdout, add.stdout
            yield f"{call} {number}"
