"""A verb as data, and the quick reading of a command line that has nothing unusual in it.

click renders help, completion and mistakes (`minirt.cli.clicked`), but importing it costs 40 to 60 ms, as much as a
whole `run`. So a verb is a table of options, from which click's command is made when it is needed, and from which
`read` takes the values of a well-formed command line by itself. Whatever `read` does not take without question, it
leaves to click; a test draws command lines at random and finds both of one mind.
"""

from __future__ import annotations

from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

FLAG, VALUE, MANY, OPTIONAL = "flag", "value", "many", "optional"
EXIT_CODES = (
    "Exit code: the command's own, 128+N when signal N ended it, 127 when it is not found, 126 when it cannot be "
    "executed, 125 when minirt itself fails."
)


@record
class Option:
    """One option: its spellings, a line of help, and the kind of value, whose key is the first long spelling.

    An OPTIONAL value stands behind `=` or not at all; `usual` is what it is then. Where `bare`, an empty value says
    something.
    """

    names: tuple[str, ...]
    help: str
    kind: str = FLAG
    metavar: str = ""
    usual: str = ""
    bare: bool = False

    @property
    def key(self) -> str:
        long = next(name for name in self.names if name.startswith("--"))
        return long[2:].replace("-", "_")

    @property
    def empty(self) -> Any:
        return {FLAG: False, VALUE: None, MANY: (), OPTIONAL: None}[self.kind]


@record
class Argument:
    """A positional argument; `many` takes all that is left, at least one if `required`. Where `bare`, an empty one says
    something."""

    key: str
    metavar: str
    many: bool = False
    required: bool = True
    bare: bool = False


EXPLAIN = (
    Option(
        ("--explain",),
        "Tell on standard error what is done, by whom, and as which commands.",
        OPTIONAL,
        "[=short|full|json]",
        "short",
    ),
    Option(("--step",), "Stop before each step, and say what to look at."),
)


TRACE_FILE = Option(
    ("--trace",),
    "Record every call of a plugin in FILE (mode 600), behind what it holds; see 'minirt cni trace'.",
    VALUE,
    "FILE",
)


@record
class Verb:
    """A verb: `body` gets the values by key and returns the exit code.

    `stops`: options end at the first argument (`minirt run IMAGE ls -l` gives `-l` to ls).
    `failure`: the exit code of a mistake; docker answers 125 where the workload's own code may be returned.
    """

    name: str
    help: str
    body: Callable[[dict[str, Any]], int]
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    stops: bool = False
    failure: int = 1
    epilog: str = ""


def start(verb: Verb, values: dict[str, Any]) -> int:
    """Carry out the verb; its exit code. An empty value is mostly a script's variable that is not set, and what would
    be done without the option is not what was meant. Raises UsageError."""
    for option in verb.options:
        if values[option.key] == "" and not option.bare:
            raise _empty(option.names[0])
    for argument in verb.arguments:
        if values[argument.key] == "" and not (argument.required or argument.bare):
            raise _empty(argument.metavar.strip("[]"))
    return verb.body(values)


def _empty(name: str) -> Exception:
    from minirt.errors import UsageError

    return UsageError(f"{name} is given, and empty", "give it a value, or leave it out")


def read(verb: Verb, words: Sequence[str]) -> dict[str, Any] | None:
    """The values on a well-formed command line, as click would give them; None when click should look at it."""
    options = {name: option for option in verb.options for name in option.names}
    values: dict[str, Any] = {option.key: option.empty for option in verb.options}
    positional: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            return None
        if not word.startswith("-") or word == "-":
            positional.append(word)
            if verb.stops:
                positional += reversed(rest)
                break
        elif not _take(options, word, rest, values):
            return None
    return _arguments(verb.arguments, positional, values)


def spelled_out(verb: Verb, words: Sequence[str]) -> list[str]:
    """`words`, with the usual value behind every OPTIONAL option that has none: for click, which would take the next
    word for it."""
    options = {name: option for option in verb.options for name in option.names}
    written: list[str] = []
    rest = list(reversed(words))
    while rest:
        written.append(word := rest.pop())
        if word == "--" or (verb.stops and (word == "-" or not word.startswith("-"))):
            break
        name, equals, _value = word.partition("=")
        option = options.get(name if word.startswith("--") else _last_of(options, word))
        if option is None or equals or option.kind == FLAG:
            continue
        if option.kind == OPTIONAL:
            written[-1] += f"={option.usual}"
        elif rest:
            written.append(rest.pop())
    return written + rest[::-1]


def _last_of(options: dict[str, Option], word: str) -> str:
    """The short option whose value is the next word; empty when `word` has its value, or needs none."""
    for index, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option is None or option.kind != FLAG:
            return f"-{letter}" if index == len(word) else ""
    return ""


def _take(options: dict[str, Option], word: str, rest: list[str], values: dict[str, Any]) -> bool:
    """Read one word of options, and its value from `rest` (a stack) where it has one. False: not understood."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return _set(options.get(name), value if equals else None, rest, values)
    for index, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option is not None and option.kind == FLAG:
            values[option.key] = True
        else:  # the rest of the word is the option's value
            return _set(option, word[index:] or None, rest, values)
    return True


def _set(option: Option | None, attached: str | None, rest: list[str], values: dict[str, Any]) -> bool:
    if option is None or (option.kind == FLAG and attached is not None):
        return False
    if option.kind == FLAG:
        values[option.key] = True
        return True
    if option.kind == OPTIONAL:
        values[option.key] = option.usual if attached is None else attached
        return True
    if attached is None and not rest:
        return False
    value = rest.pop() if attached is None else attached
    values[option.key] = (*values[option.key], value) if option.kind == MANY else value
    return True


def _arguments(wanted: tuple[Argument, ...], given: list[str], values: dict[str, Any]) -> dict[str, Any] | None:
    for argument in wanted:
        if argument.required and not given:
            return None
        if argument.many:
            values[argument.key], given = tuple(given), []
        else:
            values[argument.key] = given.pop(0) if given else None
    return None if given else values
