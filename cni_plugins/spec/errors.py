"""The error object of the contract and its codes (SPEC.md 1.1.0, "Error").

A plugin prints one on standard output and exits non-zero; a runtime reads it back.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8  # not in the specification's table, but what the Go libraries answer
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
PLUGIN_SPECIFIC = 100  # first of the codes that plugins may define for themselves
INTERNAL = 999  # any failure without a code of its own, as the Go skeleton answers


class CniError(Exception):
    """A failure with a code of the contract. `msg` is one line; `details` may say more."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg

    def to_json(self, version: str = "") -> dict[str, Any]:
        """The error object, with `cniVersion` when the request's version is known."""
        document: dict[str, Any] = {"cniVersion": version} if version else {}
        document |= {"code": self.code, "msg": self.msg}
        if self.details:
            document["details"] = self.details
        return document
