"""Hypothesis as this house uses it: few examples, many properties, no clock and nothing kept between runs.

`from support.properties import given` sees to it that the profile is there.
"""

from __future__ import annotations

from hypothesis import given, settings

__all__ = ["given"]

settings.register_profile("house", max_examples=40, deadline=None, database=None)
settings.load_profile("house")
