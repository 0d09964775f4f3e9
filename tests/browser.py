"""A headless Chromium driven over WebDriver, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

BINARY, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_LONGEST = 180  # s, for what takes one on a machine that has nothing else to do
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_KEYS = {
    "ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Shift": "\ue008", "Control": "\ue009",
    "Home": "\ue011", "End": "\ue010", "Tab": "\ue004", "Enter": "\ue007",
}  # fmt: skip


class Browser:
    """One window; use as a context."""

    def __init__(self, profile: Path, width: int = 1400, height: int = 1000) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {
            "binary": BINARY,
            "args": [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._wait()
        session = self._call("/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call(self._session, method="DELETE")
        finally:
            self._process.terminate()
            self._process.wait(timeout=10)

    def open(self, path: Path) -> None:
        self._call(f"{self._session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self._call(f"{self._session}/execute/sync", {"script": script, "args": []})

    def click(self, x: int, y: int) -> None:
        moves = [
            {"type": "pointerMove", "duration": 0, "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": moves})

    def press(self, *names: str) -> None:
        """Keys held together, characters or names."""
        keys = [_KEYS.get(name, name) for name in names]
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._act({"type": "key", "id": "keyboard", "actions": down + up})

    def type(self, selector: str, text: str) -> None:
        """Type into an element, which has the focus then."""
        self.run(f"document.querySelector({selector!r}).focus()")
        for character in text:
            self.press(character)
        self.run("document.activeElement.blur()")

    def save_into(self, folder: Path) -> None:
        """Let the page's downloads go into a folder, without asking."""
        about = {"behavior": "allow", "downloadPath": str(folder.resolve())}
        self.command("Browser.setDownloadBehavior", about)

    def command(self, name: str, about: dict[str, Any]) -> Any:
        """The answer to a command of Chromium's own protocol."""
        body = {"cmd": name, "params": about}
        return self._call(f"{self._session}/goog/cdp/execute", body)

    def screenshot(self) -> bytes:
        """The window as a PNG."""
        return base64.b64decode(self._call(f"{self._session}/screenshot", method="GET"))

    def printed(self) -> bytes:
        """The page as it is printed, a PDF."""
        return base64.b64decode(self._call(f"{self._session}/print"))

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Lines of the ``browser`` console or of ``performance``."""
        return self._call(f"{self._session}/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """Addresses the page asked for."""
        addresses = []
        for line in self.log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                addresses.append(message["params"]["request"]["url"])
        return addresses

    def _act(self, source: dict[str, Any]) -> None:
        self._call(f"{self._session}/actions", {"actions": [source]})

    def _wait(self) -> None:
        for _ in range(100):
            try:
                self._call("/status", method="GET")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError("chromedriver did not start")

    def _call(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._root + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_LONGEST) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error
