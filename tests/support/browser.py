"""A browser without a window: Debian's chromium, led by its chromedriver.

The driver is spoken to as W3C WebDriver says: JSON over HTTP, a session, and below it what the session can do. What is
chromium's own (its log, devices that are pretended) goes by the driver's extensions to it.
"""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "escape": "\ue00c", "tab": "\ue004"}
KEYS |= {"enter": "\ue007", "space": " "}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for "this is an element"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--force-color-profile=srgb", "about:blank",
)  # fmt: skip
_PATIENCE = 10.0
PHONES = 600  # pixels: what is narrower has fingers for a pointer


class Browser:
    """One browser; `with` ends it, and its driver."""

    def __init__(self, home: Path) -> None:
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0", f"--log-path={home}/driver.log"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._driver.stdout
        line = next(line for line in self._driver.stdout if "successfully on port" in line)
        self._port = int(line.rpartition("port")[2].strip(" .\n"))
        options = {"binary": "/usr/bin/chromium", "args": [*_FLAGS, f"--user-data-dir={home}/profile"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._session = ""
        made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/{made['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.communicate(timeout=_PATIENCE)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            text = None if method != "POST" else json.dumps(body or {})
            connection.request(method, f"/session{self._session}{path}", text, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{path}: {value['error']}: {value['message'].splitlines()[0]}")
        return value

    # --- hands -------------------------------------------------------------------------------------------------------

    def go(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def reload(self) -> None:
        self._ask("POST", "/refresh")

    def click(self, selector: str) -> None:
        self.click_on("return document.querySelector(arguments[0])", selector)

    def click_on(self, found: str, *arguments: Any) -> None:
        """A click into the middle of the element that a body of JavaScript gives: of a shadow tree, say. Whoever clicks
        where something is drawn anew just then, clicks again."""
        for again in (True, True, False):
            element = self.script(found, *arguments)
            assert element, f"there is no {arguments}"
            try:
                self._ask("POST", f"/element/{element[_ELEMENT]}/click")
                return
            except AssertionError as error:
                if "stale element" not in str(error) or not again:
                    raise

    def press(self, *keys: str) -> None:
        """Keys by their names, to whatever has the focus."""
        typed = [{"type": kind, "value": KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": typed}]})

    def script(self, text: str, *arguments: Any) -> Any:
        """The value of a body of JavaScript; its arguments are arguments[0] and so on."""
        return self._ask("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def chromium(self, command: str, **parameters: Any) -> Any:
        """A command of chromium's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width: int, height: int, scheme: str = "light", still: bool = True) -> None:
        """The size of the screen, its colours, and whether its owner wants nothing to move."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce" if still else "no-preference"}
        listed = [{"name": name, "value": value} for name, value in features.items()]
        self.chromium("Emulation.setEmulatedMedia", features=listed)
        self.chromium("Emulation.setTouchEmulationEnabled", enabled=width < PHONES)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < PHONES}
        self.chromium("Emulation.setDeviceMetricsOverride", **metrics)

    # --- eyes --------------------------------------------------------------------------------------------------------

    def texts(self, selector: str) -> list[str]:
        """What stands in each element, whether it is in sight or not."""
        found: list[str] = self.script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return found

    def text(self, selector: str) -> str:
        """What stands in the first element, as it is seen; nothing where that is not shown."""
        seen = "const e = document.querySelector(arguments[0]); return e?.checkVisibility() ? e.innerText : ''"
        return str(self.script(seen, selector))

    def until(self, what: str, true: Callable[[], Any], patience: float = _PATIENCE) -> Any:
        """Wait until `true` gives something true, and give that."""
        deadline = time.monotonic() + patience
        while not (value := true()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {patience} s\n{self.text('body')}\n{self.log()}")
            time.sleep(0.03)
        return value

    def picture(self, path: Path) -> bytes:
        """What the screen shows, also written to `path`, as PNG."""
        data = base64.b64decode(self._ask("GET", "/screenshot"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def log(self) -> Sequence[str]:
        """What the console has said since it was asked last."""
        return [f"{entry['level']} {entry['message']}" for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> Sequence[str]:
        """What has been asked of the network since that was asked last: addresses."""
        entries = [json.loads(entry["message"]) for entry in self._ask("POST", "/se/log", {"type": "performance"})]
        asked = [entry["message"] for entry in entries if entry["message"]["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in asked]
