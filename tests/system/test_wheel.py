"""The wheel: whoever installs it has everything that a checkout has, the files that are no Python among it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support import house, leftovers
from support.command import Command
from support.house import TOP
from support.served import Served

DATA = ("minirt/web/page", "minirt/lessons/course", "minirt/configs")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(TOP))
    subprocess.run([*PIP, *words], check=True, timeout=100)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an installation. What it depends on is that of the checkout, which is not there itself."""
    home = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    subprocess.run(
        [*PIP, "--python", str(home), "install", "--no-deps", "--no-index", str(wheel)], check=True, timeout=60
    )
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("platlib") + "\n", encoding="utf-8")
    return home / "bin" / "minirt"


def test_a_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    has = set(zipfile.ZipFile(wheel).namelist())
    assert {house.name(path) for path in house.python_files(*house.PACKAGES)} - has == set()
    for folder in DATA:
        names = {f"{folder}/{name}" for name in os.listdir(TOP / folder)}
        assert names and names - has == set()


@pytest.mark.leaves(*leftovers.SHARED)
def test_what_a_wheel_installs_serves_the_page_and_knows_its_network_and_the_course(
    installed: Path, minirt: Command
) -> None:
    python = installed.with_name("python")
    place = subprocess.run(
        [python, "-c", "import minirt; print(minirt.__file__)"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert Path(place.stdout.strip()).is_relative_to(installed.parents[1]), "the checkout is not there"
    served = Served(minirt, program=str(installed))
    for path in (TOP / "minirt/web/page").iterdir():
        answer, body = served.ask(f"/{path.name}")
        assert (answer.status, body) == (200, path.read_bytes())
    with served.events() as events:
        (network,) = events.until("picture")["networks"]
    assert network["name"] == "minirt", "the built-in list"
    assert served.end() == 0
    text = minirt.machine.text(str(installed), "lesson")
    assert all(line in text for line in ("An empty namespace", "Runtimes"))
