"""A trace as JSON for programs: one line a call, whole, in the order in which the calls began.

minirt cni trace FILE --format json | jq -c 'select(.exit != 0)'
"""

from __future__ import annotations

from typing import Any

from cni_plugins.spec.jsontext import dumps
from minirt.trace.reading import Call, Step, Trace
from minirt.visible import in_json


def draw(trace: Trace) -> str:
    callers = {id(inner): call.number for call in trace.calls for inner in call.inside}
    return "\n".join(in_json(dumps(to_json(call, callers.get(id(call), 0)), indent=0)) for call in trace.calls)


def to_json(call: Call, by: int = 0) -> dict[str, Any]:
    """One call. `by` is the number of the call that led to it, 0 for the runtime's own; `result` is what standard
    output says, null where that is no JSON."""
    answer = call.answer
    ended: dict[str, Any] = dict.fromkeys(("exit", "stdout", "stderr", "seconds", "problem", "result"))
    if answer is not None:
        ended = {**answer.__dict__, "result": answer.document}
    return {
        "number": call.number,
        "by": by,
        **{key: getattr(call, key) for key in ("time", "command", "network", "plugin", "path")},
        "env": dict(call.env),
        "inherited": list(call.inherited),
        "stdin": dict(call.stdin),
        "steps": [step.__dict__ for step in call.inside if isinstance(step, Step)],
        "left_out": call.left_out,
        **ended,
    }
