"""A web server of files on this host, which counts what it sends, is as slow as asked, and fails when asked."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 64 << 10
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder at ``url``.

    Attributes:
        sent: bytes of content by path, such as ``/a.tar``.
        requests: the answered requests for content: path, first byte, and number of bytes.
        rate: bytes a second over all connections; None is no limit.
        gives_versions: False leaves out ETag and time.
        gives_parts: False ignores requests for ranges, as Python's own server does.
        before: called with the path and the number of its request before each answer; it returns the status of an
            error, or None. It may wait, or raise ConnectionError to end the connection.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sent = Counter[str]()
        self.requests: list[tuple[str, int, int]] = []
        self.rate: float | None = None
        self.gives_parts = self.gives_versions = True
        self.before: Callable[[str, int], int | None] = lambda *_: None
        self.numbers = Counter[str]()
        self.lock = threading.Lock()
        self._free_at = 0.0

    def wait_for_turn(self, num_bytes: int) -> None:
        """Wait until so many bytes may be sent."""
        if self.rate is None:
            return
        with self.lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + num_bytes / self.rate
        time.sleep(max(self._free_at - time.monotonic(), 0))

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_HEAD(self) -> None:
        self._answer(has_content=False)

    def do_GET(self) -> None:
        self._answer(has_content=True)

    def _answer(self, *, has_content: bool) -> None:
        server, file = self.server, self.server.folder / self.path.lstrip("/")
        with server.lock:
            server.numbers[self.path] += 1
            number = server.numbers[self.path]
        status = server.before(self.path, number)
        if status is None and not file.is_file():
            status = 404
        if status is not None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        size, start = len(content), 0
        asked = RANGE.fullmatch(self.headers.get("Range", "")) if server.gives_parts else None
        if asked:
            start = int(asked[1])
            content = content[start : int(asked[2]) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content)))
        if server.gives_versions:
            self.send_header("Last-Modified", self.date_time_string(int(file.stat().st_mtime)))
            self.send_header("ETag", f'"{file.stat().st_mtime_ns:x}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        self.end_headers()
        if has_content:
            with server.lock:
                server.requests.append((self.path, start, len(content)))
            self._send(content)

    def _send(self, content: bytes) -> None:
        for at in range(0, len(content), PIECE):
            piece = content[at : at + PIECE]
            self.server.wait_for_turn(len(piece))
            with self.server.lock:
                self.server.sent[self.path] += len(piece)
            self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """Serve the files of a folder."""
    server = WebServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
