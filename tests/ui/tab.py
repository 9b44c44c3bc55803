"""A browser's tab on a page that a server of this machine gives."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ..reporting.browser import Browser

PATIENCE = 60


class Tab(Browser):
    """`complaints` holds no request to the page's own server, but every other one."""

    address = ""

    def open(self, address: str, width: int = 1280, height: int = 1000) -> None:
        """Go to an address and wait until the page is there."""
        self.address = address
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **metrics)
        self._ask("Page.navigate", url=address)
        self._wait("Page.loadEventFired")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (found := self.value(expression)):
            assert time.monotonic() < end, (expression, self.value("document.body.innerText"))
            self.value("new Promise(done => setTimeout(done, 100))")
        return found

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file as a user does in the dialogue of an input."""
        found = self._ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self._ask("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def write(self, selector: str, text: str) -> None:
        """Type a text into a field and press Enter."""
        self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        self._ask("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def _note(self, event: str, said: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent" and said["request"]["url"].startswith((self.address or "-", "blob:")):
            return
        super()._note(event, said)
