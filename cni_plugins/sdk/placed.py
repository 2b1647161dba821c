"""Where an attachment's work lies, for plugins that do theirs in the container's namespace and make no link there.

ADD writes the namespace down first: its path, and its inode, which no other has while it lives. So DEL without
CNI_NETNS and GC find it again; a path that means another one by now, or the host's own, is nothing to them.
"""

from __future__ import annotations

import os

from cni_plugins.sdk.netns import OURS, Namespace, sandbox_left
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record
class Note(Step):
    """Write `document` down of an attachment; `before` is what stood there, and stands there again when ADD fails."""

    records: AttachmentRecords
    owner: Owner
    document: dict[str, Any]
    before: dict[str, Any] | None = None

    def describe(self) -> str:
        return ""  # of the kernel's state nothing

    def apply(self) -> None:
        self.records.save(self.owner, self.document)

    def undo(self) -> None:
        if self.before is not None:
            self.records.save(self.owner, self.before)
        else:
            self.records.delete(self.owner)


def note(records: AttachmentRecords, owner: Owner, inside: Namespace, **more: Any) -> Note:
    """The step of an attachment whose work lies `inside`, with what else is to be known of it."""
    place = {"netns": inside.path, "inode": os.fstat(inside.fd).st_ino}
    return Note(records, owner, place | more, records.load(owner))


def left(document: dict[str, Any]) -> Namespace | None:
    """The namespace that `document` tells of, opened; None where it has gone, is another one now, or the host's."""
    path = document.get("netns")
    inside = sandbox_left(path) if isinstance(path, str) else None
    if inside is None:
        return None
    inode = os.fstat(inside.fd).st_ino
    if inode == document.get("inode") and inode != os.stat(OURS).st_ino:
        return inside
    inside.close()
    return None
