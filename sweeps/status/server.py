"""``manage.py serve``: the page of sweeps over HTTP. It answers GET and HEAD of one address, and changes nothing."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aimv2.base.errors import UsageError
from aimv2.sweeps.status.board import pause

IDLE_SECONDS = 10.0  # after which a client that sends nothing is dropped


class PageServer(ThreadingHTTPServer):
    """Serves a page, which is made at most every ``refresh_seconds``, however many look at it.

    Args:
        read: makes the page.
        policy: its Content-Security-Policy.

    Raises:
        UsageError: the address cannot be used.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, read: Callable[[], str], policy: str, *, refresh_seconds: float) -> None:
        self.policy = policy
        self._read, self._refresh_seconds = read, refresh_seconds
        self._lock = threading.Lock()
        self._page, self._read_next = b"", float("-inf")
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), PageHandler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"port={port} of host={host} cannot be used: {why}; type another port=") from error

    def page(self) -> bytes:
        with self._lock:
            started = time.monotonic()
            if started >= self._read_next:
                self._page = self._read().encode()
                now = time.monotonic()
                self._read_next = now + pause(now - started, self._refresh_seconds)
            return self._page

    def is_own(self, host: str) -> bool:
        """True if a Host header names this server. A page of another site, whose name was pointed here, does not."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in self._names
        return True


class PageHandler(BaseHTTPRequestHandler):
    """Answers one client. Methods other than GET and HEAD are refused by the base class."""

    server: PageServer
    server_version, sys_version = "aimv2", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        if not self.server.is_own(self.headers.get("Host", "")):
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        if self.path.partition("?")[0] != "/":
            return self.send_error(HTTPStatus.NOT_FOUND)
        try:
            page = self.server.page()
        except (OSError, UsageError) as error:
            return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)
        return None

    do_HEAD = do_GET

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass  # the terminal stays quiet
