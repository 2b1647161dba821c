"""What a command tells those who look on, when the disk has no room for it."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

import pytest

from minirt.explain import story
from minirt.explain.account import FACT, Item
from minirt.web.stories import Stories


def item(words: str) -> Item:
    return Item(FACT, "runtime", words)


@pytest.mark.parametrize("room", [10, 100, 200, 300])
@pytest.mark.parametrize("looks", [False, True])
def test_what_finds_room_again_is_read_whole(tmp_path: Path, room: int, looks: bool) -> None:
    """Also by somebody who looks while half a line is there, and when two write by one open file."""
    stories = Stories(str(tmp_path))
    told = story.begin("minirt run", str(tmp_path))
    assert told is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        told.write(item("one"))
        told.write(item("two" * 50))
        os._exit(0)
    os.waitpid(process, 0)
    if looks:
        stories.look()
    told.write(item("three"))
    told.write(item("four"))
    os.close(told.fd)
    stories.look()
    (found,) = stories.all()
    texts = [each["text"] for each in found.items]
    assert texts[-2:] == ["three", "four"] and set(texts[:-2]) <= {"one", "two" * 50}
    assert found.to_json(str)["command"] == "minirt run" and found.done
    stories.close()


def test_half_a_line_is_read_when_it_is_whole_and_never_when_it_is_taken_back(tmp_path: Path) -> None:
    stories = Stories(str(tmp_path))
    told = story.begin("minirt run", str(tmp_path))
    assert told is not None
    told.write(item("one"))
    size = os.fstat(told.fd).st_size
    os.write(told.fd, b'{"at": 1, "item": {"kind": "fact", "who": "runtime", "te')
    stories.look()
    os.ftruncate(told.fd, size)
    told.write(item("two"))
    stories.look()
    os.write(told.fd, b'{"at": 1, "item": {"kind": "fact", "who": "runtime"')
    told.write(item("three"))
    stories.look()
    assert [each["text"] for each in stories.all()[0].items] == ["one", "two", "three"]
    os.close(told.fd)
    stories.close()


def test_of_two_who_write_one_waits_for_the_other(tmp_path: Path) -> None:
    """Although they share an open file, as a command and what it leaves in the background do."""
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    told = story.Story(fd, "minirt run")
    fcntl.lockf(fd, fcntl.LOCK_EX)
    process = os.fork()
    if not process:
        told.write(item("late"))
        os._exit(0)
    while (state := Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]) not in "SZ":
        pass
    assert state == "S"
    os.write(fd, b"early\n")
    fcntl.lockf(fd, fcntl.LOCK_UN)
    os.waitpid(process, 0)
    os.close(fd)
    assert path.read_text().startswith("early\n{")
