"""The two readers of a command line agree, and mistakes are told by click in our own manner."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.cli import clicked, verbs
from minirt.cli.verb import FLAG, MANY, OPTIONAL, VALUE, Verb, read, start
from minirt.errors import UsageError

VERBS = {" ".join(words): verbs.load(words) for words in verbs.TABLE}
words = st.one_of(
    st.sampled_from(["host", "x", "a=b", "8080:80", "-", "--", "-x", "--nonsense", "--rm=yes", "ls", "-la"]),
    st.sampled_from(sorted({name for verb in VERBS.values() for option in verb.options for name in option.names})),
    st.sampled_from(["-it", "-dp", "-p80:80", "--name=web", "--env=A=1", "-eA=1", "-itw/", "--name", "-fn5"]),
)


def by_click(verb: Verb, argv: list[str]) -> dict[str, Any] | None:
    """The values that click finds; None when it finds a mistake, or help is asked for."""
    import click

    command = clicked.command(verb)
    try:
        with command.make_context(verb.name, list(argv), resilient_parsing=False) as context:
            return {key: () if value is None and _many(verb, key) else value for key, value in context.params.items()}
    except (click.UsageError, click.exceptions.Exit):
        return None


def _many(verb: Verb, key: str) -> bool:
    return any(option.key == key and option.kind == MANY for option in verb.options)


@pytest.mark.parametrize("name", VERBS)
@given(argv=st.lists(words, max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_the_quick_reader_takes_click_takes_alike(name: str, argv: list[str]) -> None:
    verb = VERBS[name]
    quick = read(verb, argv)
    if quick is not None:
        assert quick == by_click(verb, argv), shlex.join(argv)


@pytest.mark.parametrize(
    "line",
    [
        "run --rm host true",
        "run -it --name web -p 8080:80 -p 8443:443 -e A=1 -v /a:/b:ro host sh -c 'ls -l'",
        "run -dp 80:80 --network=blue --network green host",
        "logs -fn5 web",
        "rm -f a b c",
        "ps -aq",
        "exec -it web sh",
        "cni add lab /run/netns/box -ieth1 --cap-args={}",
        "cni del lab --docker web --force",
        "cni exec bridge add web /run/netns/web --conf -",
        "cni version",
        "plugin install",
        "plugin install --force /opt/cni/bin",
    ],
)
def test_an_ordinary_line_needs_no_click(line: str) -> None:
    found = verbs.split(shlex.split(line))
    assert found is not None
    verb, rest = found
    values = read(verb, rest)
    assert values is not None
    assert values == by_click(verb, rest)


@pytest.mark.parametrize("name", VERBS)
def test_a_value_that_is_given_and_empty_is_a_mistake(name: str) -> None:
    """`--port "$PORT"` of a script where PORT is not set; also of click, which would take the default."""
    verb = VERBS[name]
    needed = ["x" for argument in verb.arguments if argument.required]
    lines = [[f"{option.names[0]}=", *needed] for option in verb.options if option.kind in (VALUE, OPTIONAL)]
    bare = {f"{option.names[0]}=" for option in verb.options if option.bare}
    lines += [[*needed, ""] for argument in verb.arguments if not argument.required and not argument.many][:1]
    for line in lines:
        if line[0] in bare:
            continue
        values = read(verb, line)
        assert values is not None
        with pytest.raises(UsageError, match="is given, and empty"):
            start(verb, values)
        with pytest.raises(UsageError, match="is given, and empty"):
            clicked.run([*name.split(), *line], "0")


@pytest.mark.parametrize(
    "line", ["run", "run --nonsense host", "run --name", "rm", "ps x", "nonsense", "plugin nonsense"]
)
def test_a_mistake_is_a_usage_error_with_a_hint(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        clicked.run(shlex.split(line), "0")
    assert caught.value.message
    assert "--help" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rum --rm host", "no such command 'rum'. Did you mean 'rm' or 'run'?"),
        ("network craete x", "no such command 'craete'. Did you mean 'create'?"),
        ("xyzzy", "no such command 'xyzzy'"),
    ],
)
def test_a_verb_that_is_none_is_told_with_those_that_are_near(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        clicked.run(shlex.split(line), "0")
    assert caught.value.message == says


@pytest.mark.parametrize("line", ["", "network", "cni", "plugin", "dhcp"])
def test_a_group_alone_is_answered_with_its_help_and_nothing_else(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert clicked.run([*line.split(), "--help"], "0") == 0
    asked = capfd.readouterr().out
    assert clicked.run(line.split(), "0") == 2
    assert capfd.readouterr() == ("", asked)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_that_shows_all_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert clicked.run([*name.split(), "--help"], "0") == 0
    shown = capsys.readouterr().out
    for option in VERBS[name].options:
        assert all(spelling in shown for spelling in option.names)
    assert max(map(len, shown.splitlines())) <= 100


def test_the_list_of_verbs_shows_each_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert clicked.run(["--help"], "0") == 0
    shown = capsys.readouterr().out
    for name in {words[0] for words in verbs.TABLE}:
        assert f"\n  {name} " in shown


def test_no_two_options_of_a_verb_share_a_spelling() -> None:
    for verb in VERBS.values():
        spellings = [name for option in verb.options for name in option.names]
        assert len(spellings) == len(set(spellings)), verb.name
        assert all(option.metavar or option.kind == FLAG for option in verb.options), verb.name
