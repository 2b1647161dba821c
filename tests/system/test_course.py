"""The course: every lesson shows what really happens, and its checks tell done from not done."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import pages
from support.command import Command

from minirt.lessons import page as lessons

PAGES = sorted(pages.COURSE.glob("[0-9]*.md"))
WIDEST = 100 - len("lab# ") - 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.leaves("nft table ip nat", "nft chain ip nat *")
def test_a_lesson_does_what_is_shown_and_its_checks_know(minirt: Command, page: Path, tmp_path: Path) -> None:
    pages.run(minirt, page, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_there_are_ten_lessons_in_order_and_the_first_page_links_them_all() -> None:
    known = lessons.lessons()
    assert [lesson.number for lesson in known] == list(range(1, 11))
    first = (pages.COURSE / "README.md").read_text()
    for page, lesson in zip(PAGES, known, strict=True):
        assert f"{lesson.number}. [{lesson.title}]({page.name})" in first


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_terminal_is_told_what_the_page_says(page: Path) -> None:
    lesson = lessons.read(str(page))
    typed = [command for step in lesson.steps for command in step.commands]
    questions = [line for step in lesson.steps for fact in step.facts for line in fact.lines]
    sitting = [line.command for line in pages.sitting(page)]
    assert [command for command in sitting if command in typed] == typed
    assert all(any(question in command for command in sitting) for question in questions)
    assert max(len(line) for command in typed for line in command.splitlines()) <= WIDEST


def test_every_word_of_a_page_belongs_to_some_part_of_the_lesson() -> None:
    for page in PAGES:
        lesson = lessons.read(str(page))
        told = " ".join(part for part in lesson.parts if isinstance(part, str))
        outside = pages.prose(page)
        assert told == outside
