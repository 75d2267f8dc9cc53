"""Headless Chromium, driven through its debugging pipe (the Chrome DevTools Protocol, NUL-terminated JSON)."""

import contextlib
import json
import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root, as in CI, cannot have one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_browser():
    """Return the path of Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser.

    Attributes:
        requested: the addresses that the page has requested since it was opened.
    """

    def __init__(self, program, profile):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium reads commands from its descriptor 3 and writes answers to 4.
        line = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session, self._events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._send("Browser.close", session=None)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def open(self, path, width=1200, height=800, *, media="", is_dark=False):
        """Open a file in a window of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())

    @property
    def requested(self):
        requests = (event["params"] for event in self._events if event["method"] == "Network.requestWillBeSent")
        return [request["request"]["url"] for request in requests]

    def run(self, script):
        """Run JavaScript, the body of an asynchronous function, and return what it returns."""
        expression = f"(async () => {{ {script} }})()"
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def call(self, method, **parameters):
        """Call a method of the protocol, and return its result."""
        number = self._send(method, session=self._session, **parameters)
        while (message := self._receive()).get("id") != number:
            self._events.append(message)
        assert "error" not in message, message["error"]
        return message["result"]

    def _send(self, method, *, session, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        return self._number

    def _receive(self):
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
