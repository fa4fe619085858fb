"""Headless Chromium for tests, driven over WebDriver by the standard library alone; its network is off."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ports import free_ports

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver on this machine (Debian: chromium, chromium-driver)"
)

WAIT = "return new Promise(done => (function look() { (%s) ? done() : requestAnimationFrame(look) })())"
"""A script that waits until a condition holds."""

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip


class Browser:
    """One window of a browser.

    Args:
        session: address of its WebDriver session.
    """

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, path: Path, fragment: str = "") -> None:
        """Opens a file anew, also where it is open already."""
        _call(f"{self._session}/url", {"url": "about:blank"})
        _call(f"{self._session}/url", {"url": f"{path.absolute().as_uri()}{fragment}"})

    def run(self, script: str, *arguments: Any) -> Any:
        """Returns what a script returns; a promise is waited for."""
        return _call(f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def picture(self) -> np.ndarray:
        """Returns `[height, width, 3]` uint8, a screenshot of the window."""
        png = base64.b64decode(_call(f"{self._session}/screenshot"))
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drags the mouse between two points of the page."""
        moves = [{"type": "pointerMove", "duration": 0, "x": x, "y": y} for x, y in (start, end)]
        buttons = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        actions = [moves[0], buttons[0], moves[1], buttons[1]]
        _call(f"{self._session}/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        _call(f"{self._session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def errors(self) -> list[str]:
        """Returns what the page has logged as errors, failed requests among them, since the last call."""
        log = _call(f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def chromium(width: int, height: int) -> Iterator[Browser]:
    """Starts a browser with a window of this size."""
    assert CHROMIUM and DRIVER
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.PIPE, text=True)
        try:
            assert driver.stdout is not None
            for line in driver.stdout:
                if "started successfully" in line:
                    break
            arguments = [*_ARGUMENTS, f"--window-size={width},{height}", f"--user-data-dir={profile}"]
            wanted = {"binary": CHROMIUM, "args": arguments}
            capabilities = {"goog:chromeOptions": wanted, "goog:loggingPrefs": {"browser": "ALL"}}
            address = f"http://127.0.0.1:{port}/session"
            session = _call(address, {"capabilities": {"alwaysMatch": capabilities}})
            yield Browser(f"{address}/{session['sessionId']}")
            _call(f"{address}/{session['sessionId']}", method="DELETE")
        finally:
            driver.kill()
            driver.wait()
            assert driver.stdout is not None
            driver.stdout.close()


def _call(address: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        return json.load(answer)["value"]
