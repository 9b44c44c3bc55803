"""Headless Chromium, spoken to in its DevTools protocol through a pair of pipes; the standard library is enough."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120
"""Seconds to wait for a word of the browser."""
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """The path of a Chromium, if one is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _out_of_the_way(descriptor: int) -> int:
    """Give a descriptor another number: Chromium reads from 3 and writes to 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Browser:
    """One tab. Use it as a context.

    Attributes:
        complaints: what was written to the console as an error or a warning, and requests for anything but the page.
    """

    def __init__(self, path: str) -> None:
        self.complaints: list[str] = []
        self._number = 0
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self._to = map(_out_of_the_way, os.pipe())
        self._from, to_us = map(_out_of_the_way, os.pipe())
        self._process = subprocess.Popen(
            [path, *OPTIONS, f"--user-data-dir={self._home.name}", "about:blank"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: (os.dup2(from_us, 3), os.dup2(to_us, 4)),
            close_fds=False,
            start_new_session=True,
            env={**os.environ, "TMPDIR": self._home.name},
        )
        os.close(from_us)
        os.close(to_us)
        self._buffer = b""
        self._session = self._ask("Target.attachToTarget", targetId=self._first_page(), flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        self._process.terminate()
        self._process.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):  # its helpers outlive it by a moment, and write into its folder
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._from)
        self._home.cleanup()

    def show(self, page: Path, width: int, scheme: str = "light", media: str = "screen", height: int = 900) -> None:
        """Open a page in a window of this width, with this colour scheme, and wait until it is there."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", media=media, features=features)
        self._ask("Page.navigate", url=page.resolve().as_uri())
        self._wait("Page.loadEventFired")
        self.value("document.fonts.ready.then(() => 1)")

    def value(self, expression: str) -> Any:
        """Compute an expression in the page; promises are awaited."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        options = {"format": "png", "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", **options)["data"]))

    def _first_page(self) -> str:
        """The tab; parts of the browser's own window are targets too, and may come first."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for target in self._ask("Target.getTargets")["targetInfos"]:
                if target["type"] == "page" and target["url"] == "about:blank":
                    return target["targetId"]
            time.sleep(0.05)
        raise AssertionError("the browser opens no page")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def _wait(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        """The next message; complaints among the events are kept."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], PATIENCE)
            piece = os.read(self._from, 1 << 20) if ready else b""
            assert piece, "the browser has gone, or says nothing"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, said: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"]["text"])
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([each.get("value") for each in said["args"]]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not said["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.complaints.append(f"asks for {said['request']['url']}")
