"""Whatever a plugin does instead of answering has a sentence of its own (reference: R34, L11, L12)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.listbench import ONE, Bench
from support.scripted import Answer, fails, says

from minirt.errors import PluginError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def failure(bench: Bench, answer: Answer, **options: Any) -> PluginError:
    """How ADD fails when the plugin gives `answer`; nothing is remembered then."""
    bench.plugins.write("a", ADD=[answer])
    with pytest.raises(PluginError) as caught:
        bench.cni(**options).add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a DEL"] and bench.cached() == []
    return caught.value


SENTENCES = {
    "silence": (Answer(), "it exited with 0 and printed nothing, where a result was due"),
    "blank": (says(b" \n"), "it exited with 0 and printed nothing, where a result was due"),
    "silent failure": (Answer(exit=3), "it exited with 3 and said nothing"),
    "log only": (Answer(exit=3, stderr=b"oops"), "it exited with 3 and only wrote to standard error"),
    "garbage": (
        says(b"hello\n"),
        "it printed a result that is not JSON (line 1 column 1: expected a value): 'hello'",
    ),
    "garbage and failure": (
        says(b"panic: no", exit=2),
        "it exited with 2 and printed what is not JSON (line 1 column 1: expected a value): 'panic: no'",
    ),
    "bytes": (says(b"\xff\x00"), "it printed a result that is not JSON (line 1 column 1: not UTF-8: "),
    "partial": (says(b'{"cniVersion": "1.0.0", "ips": ['), "it printed a result that is not JSON (line 1 column 33: "),
    "two answers": (says(b"{}{}"), "text goes on after the value"),
    "not an object": (says([1]), "it printed a result that is no JSON object: '[1]'"),
    "a result and failure": (says(ONE, exit=1), "it exited with 1 and printed what is no error object: "),
    "an error with 0": (fails(7, "no", exit=0), "it exited with 0, but printed an error: no"),
    "an error without words": (fails(7, ""), "it gave no reason"),
    "an error without code": (says({"msg": "no"}, exit=1), "it exited with 1 and printed what is no error object: "),
    "an error whose code is none": (says({"code": True, "msg": "no"}, exit=1), "and printed what is no error object: "),
    "unknown version": (
        says({"cniVersion": "7.0.0"}),
        "it printed an invalid result: result of version '7.0.0' is not",
    ),
    "bad address": (
        says({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2"}]}),
        "it printed an invalid result: result.ips[0].address: '10.1.0.2' has no prefix length",
    ),
    "bad index": (
        says({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "interface": 3}]}),
        "it printed an invalid result: result.ips[0].interface: there is no interface 3",
    ),
    "signal": (Answer(signal=int(signal.SIGSEGV)), "it was ended by signal 11 (Segmentation fault)"),
    "result, then signal": (says(ONE, signal=int(signal.SIGKILL)), "it was ended by signal 9 (Killed)"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_R34_L11_each_way_to_fail_has_its_own_sentence(bench: Bench, case: str) -> None:
    answer, sentence = SENTENCES[case]
    error = failure(bench, answer)
    assert sentence in error.msg
    assert str(error).startswith("network 'net': plugin 'a' failed on ADD")


def test_R34_what_a_plugin_logged_is_told_with_the_failure(bench: Bench) -> None:
    error = failure(bench, says(b"", exit=2, stderr=b"line one\nline two\xff\n"))
    assert error.stderr == "line one\nline two\\xff\n"
    assert str(error).endswith(": line one\nline two\\xff")
    assert str(bench.plugins.folder / "a") in error.hint


def test_R34_a_long_answer_is_quoted_in_part(bench: Bench) -> None:
    assert len(failure(bench, says(b"x" * 5000)).msg) < 400


def test_L11_an_error_object_is_told_with_code_message_and_details(bench: Bench) -> None:
    error = failure(bench, fails(42, "bad thing", "because"))
    assert (error.code, error.msg, error.details) == (42, "bad thing", "because")
    assert str(error) == "network 'net': plugin 'a' failed on ADD (code 42): bad thing: because"
    assert error.hint == "", "the plugin has said it all"


def test_L12_a_plugin_that_never_returns_is_killed_with_all_it_started(bench: Bench) -> None:
    began = time.monotonic()
    error = failure(bench, Answer(hang=60, stderr=b"thinking\n"), timeout=0.5)
    assert time.monotonic() - began < 10
    assert "gave no answer within 0.5 s and was killed" in error.msg and "thinking" in error.stderr
    (left,) = bench.plugins.hanging()
    for _ in range(200):
        if not os.path.exists(f"/proc/{left}"):
            break
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{left}")


def test_L12_a_plugin_that_never_stops_talking_is_killed(bench: Bench) -> None:
    assert "wrote more than 16 MiB and was killed" in failure(bench, Answer(flood=1000)).msg


def test_a_long_result_is_read_whole(bench: Bench) -> None:
    routes = [{"dst": f"10.{index >> 8}.{index & 255}.0/24"} for index in range(5000)]
    bench.plugins.write("a", ADD=[says(ONE | {"routes": routes})])
    assert len(bench.cni().add(bench.attachment("a")).routes) == 5000


def test_a_child_left_running_is_not_waited_for(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE, leave=3)])
    began = time.monotonic()
    bench.cni().add(bench.attachment("a"))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"#!/no/such/interpreter\n", "its interpreter or loader does not exist"),
        (b"\x7fELF not really", "neither a program for this machine nor a script"),
    ],
)
def test_a_program_that_cannot_be_executed_is_told_with_the_reason(bench: Bench, text: bytes, why: str) -> None:
    program = bench.plugins.write("a")
    program.write_bytes(text)
    with pytest.raises(PluginError) as caught:
        bench.cni().add(bench.attachment("a"))
    assert why in caught.value.msg and str(program) in caught.value.msg
