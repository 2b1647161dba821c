"""minirt lesson"""

from __future__ import annotations

from minirt.cli.output import need_root
from minirt.cli.verb import Argument, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def lesson(values: dict[str, Any]) -> int:
    from minirt.lessons import page

    if values["number"] is None:
        for each in page.lessons():
            print(f"{each.number:>3}  {each.title}")
        return 0
    chosen = page.find(values["number"])
    need_root("lesson")
    from minirt.lessons.teacher import hold

    return 0 if hold(chosen) else 130


LESSON = Verb(
    "lesson",
    "Learn how a container gets its network: ten short lessons, each in a lab of its own that is gone when it ends. "
    "The text is that of docs/course; the commands you type yourself, or have them typed, and what you did is "
    "checked. Without N the lessons are listed.",
    lesson,
    arguments=(Argument("number", "[N]", required=False),),
)
