"""Records against `dataclasses`, which they stand in for, and plans of steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec.record import record, replace
from cni_plugins.spec.steps import Plan, Step


@record
class Base:
    first: int
    second: str = "two"


@record
class Derived(Base):
    third: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Twin:
    first: int
    second: str = "two"
    third: tuple[int, ...] = ()


fields = st.fixed_dictionaries(
    {"first": st.integers()}, optional={"second": st.text(), "third": st.tuples(st.integers())}
)


@given(fields, fields)
def test_records_compare_hash_and_show_as_frozen_dataclasses_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    ours, theirs = Derived(**one), Twin(**one)
    assert ours.__dict__ == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Twin", "Derived")
    assert (ours == Derived(**other)) is (theirs == Twin(**other))
    assert hash(ours) == hash(Derived(**one))
    assert replace(ours, **other) == Derived(**(one | other))


@pytest.mark.parametrize(
    ("positional", "named"), [((), {}), ((1, "a", (), 4), {}), ((1,), {"first": 1}), ((1,), {"fourth": 1})]
)
def test_records_take_the_arguments_that_dataclasses_take(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in (Derived, Twin):
        with pytest.raises(TypeError):
            kind(*positional, **named)


def test_records_are_frozen_and_match_by_position() -> None:
    derived = Derived(1, "b", (3,))
    with pytest.raises(AttributeError, match="Derived is frozen: cannot set first"):
        derived.first = 2  # type: ignore[misc]
    match derived:
        case Derived(first, "b", (third,)):
            assert (first, third) == (1, 3)
        case _:
            pytest.fail("did not match")


def test_records_of_another_class_are_never_equal() -> None:
    assert Base(1) != Derived(1)
    assert Derived(1) != Twin(1)  # type: ignore[comparison-overlap]


class Noted(Step):
    """A step that writes down what happens to it."""

    def __init__(self, name: str, log: list[str], fails: str = "") -> None:
        self.name, self.log, self.fails = name, log, fails

    def describe(self) -> str:
        return f"do {self.name}"

    def apply(self) -> None:
        self._note("apply")

    def undo(self) -> None:
        self._note("undo")

    def _note(self, what: str) -> None:
        self.log.append(f"{what} {self.name}")
        if self.fails == what:
            raise RuntimeError(f"{what} {self.name} failed")


def test_a_plan_that_works_is_left_as_it_is() -> None:
    log: list[str] = []
    with Plan() as plan:
        plan.do(Noted("a", log), Noted("b", log))
    assert log == ["apply a", "apply b"]


def test_a_plan_that_fails_is_undone_in_reverse_order_and_only_what_was_done() -> None:
    log: list[str] = []
    with pytest.raises(RuntimeError, match="apply c failed"), Plan() as plan:
        plan.do(Noted("a", log), Noted("b", log))
        plan.do(Noted("c", log, fails="apply"), Noted("d", log))
    assert log == ["apply a", "apply b", "apply c", "undo b", "undo a"]


def test_a_failure_to_undo_is_noted_and_does_not_stop_the_rest() -> None:
    log: list[str] = []
    with pytest.raises(KeyError) as caught, Plan() as plan:
        plan.do(Noted("a", log), Noted("b", log, fails="undo"))
        raise KeyError("the reason")
    assert log[-2:] == ["undo b", "undo a"]
    assert caught.value.__notes__ == ["not undone: undo b failed (while undoing: do b)"]


class Silent(Noted):
    """Cannot say how it is undone."""

    def describe_undo(self) -> str:
        raise RuntimeError


def test_what_cannot_be_told_is_undone_all_the_same() -> None:
    log: list[str] = []
    with pytest.raises(KeyError) as caught, Plan(lambda step: log.append(step.describe())) as plan:
        plan.do(Silent("a", log))
        raise KeyError("the reason")
    assert log == ["do a", "apply a", "", "undo a"] and not hasattr(caught.value, "__notes__")


def test_a_step_is_undone_by_its_opposite_which_tells_itself() -> None:
    log: list[str] = []

    class There(Noted):
        undo, opposite = Step.undo, lambda _self: Noted("b", log)

    with pytest.raises(KeyError), Plan(lambda step: log.append(step.describe())) as plan:
        plan.do(There("a", log))
        raise KeyError
    assert log == ["do a", "apply a", "do b", "apply b"]


def test_a_plan_shows_each_step_before_it_is_taken() -> None:
    log: list[str] = []
    with Plan(lambda step: log.append(step.describe())) as plan:
        plan.do(Noted("a", log), Noted("b", log))
    assert log == ["do a", "apply a", "do b", "apply b"]
