"""Signals by name or number, as kill(1) takes them; and the `signal` module without its price."""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the same functions and numbers; `signal` makes enums of them, which costs 10 ms

__all__ = ["NUMBERS", "name_of", "parse_signal", "signal"]

NUMBERS: dict[str, int] = {
    name: number for name, number in vars(signal).items() if name.startswith("SIG") and not name.startswith("SIG_")
}


def parse_signal(text: str) -> int:
    """`9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3` or `RTMAX-3`. Raises UsageError."""
    if text.isascii() and text.isdigit():
        number = int(text[:4])
    else:
        name, sign, offset = text.upper().replace("-", "+-").partition("+")
        number = NUMBERS.get(name, NUMBERS.get(f"SIG{name}", 0))
        if sign and name.endswith(("RTMIN", "RTMAX")) and offset.removeprefix("-").isdecimal():
            number += int(offset[:4])
        elif sign:
            number = 0
    if not 1 <= number < signal.NSIG:
        raise UsageError(f"invalid signal {text!r}", f"a number from 1 to {signal.NSIG - 1}, or a name such as TERM")
    return number


def name_of(number: int) -> str:
    """`SIGKILL` for 9; what has no name is called by its number."""
    return next((name for name, known in NUMBERS.items() if known == number), f"signal {number}")
