"""Fixtures for every test: `machine` is a private host, made for the test and left when it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.machine import Machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as private:
        yield private
