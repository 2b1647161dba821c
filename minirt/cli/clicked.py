"""The verbs as click commands: help, completion, and what is wrong with a command line. Imported only for these."""

from __future__ import annotations

from typing import Any

import click

from minirt.cli import verbs
from minirt.cli.verb import FLAG, MANY, Verb, spelled_out, start
from minirt.errors import UsageError

# Read before any verb is looked for (minirt.__main__); here for the help.
SWITCHES = {
    "--debug": "Show Python's traceback when something fails.",
    "--plain-exec": "Start every plugin as a program, never by fork.",
}


class LazyGroup(click.Group):
    """A group whose verbs are imported when they are asked for; their one-line help stands in the table."""

    def __init__(self, prefix: tuple[str, ...] = (), **attributes: Any) -> None:
        super().__init__(**attributes)
        self._prefix = prefix

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(verbs.children(self._prefix))

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        words = (*self._prefix, name)
        if words in verbs.GROUPS:
            return LazyGroup(words, name=name, help=verbs.GROUPS[words])
        return command(verbs.load(words)) if words in verbs.TABLE else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a word that is no verb is told with those that are near, as click does for options alone."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from difflib import get_close_matches

            near = " or ".join(f"{verb!r}" for verb in get_close_matches(name, verbs.children(self._prefix)))
            ctx.fail(f"No such command {name!r}.{f' Did you mean {near}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(verbs.children(self._prefix).items()))


class _Command(click.Command):
    """A command that knows options whose value may be left out."""

    def __init__(self, verb: Verb, **attributes: Any) -> None:
        super().__init__(verb.name, **attributes)
        self._verb = verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spelled_out(self._verb, args))


def command(verb: Verb) -> click.Command:
    """The click command that a verb's table describes."""
    parameters: list[click.Parameter] = []
    for option in verb.options:
        kind: dict[str, Any] = {"is_flag": True} if option.kind == FLAG else {"metavar": option.metavar}
        parameters.append(
            click.Option(
                [option.key, *option.names],
                help=option.help,
                multiple=option.kind == MANY,
                type=None if option.kind == FLAG else click.UNPROCESSED,
                **kind,
            )
        )
    for argument in verb.arguments:
        parameters.append(
            click.Argument(
                [argument.key],
                metavar=argument.metavar,
                nargs=-1 if argument.many else 1,
                required=argument.required,
                type=click.UNPROCESSED,
            )
        )
    return _Command(
        verb,
        params=parameters,
        callback=lambda **values: start(verb, values),
        help=verb.help,
        epilog=verb.epilog,
        context_settings={"allow_interspersed_args": not verb.stops},
    )


def root(version: str) -> click.Group:
    group = LazyGroup(
        name="minirt",
        help="A small container runtime that leaves networking to CNI plugins.",
        context_settings={"help_option_names": ["--help"], "max_content_width": 100},
    )
    group.params += [
        click.Option([name], is_flag=True, help=help_text, expose_value=False) for name, help_text in SWITCHES.items()
    ]
    return click.version_option(version, prog_name="minirt", message="%(prog)s %(version)s")(group)


def run(words: list[str], version: str) -> int:
    """Let click read the command line and call the verb. Raises UsageError for a mistake on it."""
    try:
        answer = root(version).main(words, prog_name="minirt", standalone_mode=False)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.1 has none: it prints this
            click.echo(error.format_message(), err=True)  # a group alone is a question, and its help the answer
            return 2
        message = error.format_message().rstrip(".")
        hint = f"'{' '.join(['minirt', *_verb_in(words)])} --help' shows what there is"
        raise UsageError(message[:1].lower() + message[1:], hint) from None
    except click.Abort:
        return 130
    return answer if isinstance(answer, int) else 0


def _verb_in(words: list[str]) -> tuple[str, ...]:
    """The words that name a verb or a group at the beginning of a command line."""
    known = (tuple(words[:length]) for length in (2, 1))
    return next((name for name in known if name in verbs.TABLE or name in verbs.GROUPS), ())
