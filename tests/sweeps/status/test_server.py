"""The server of the page, over real connections to this host."""

import http.client
import threading
import time
from contextlib import contextmanager

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.status.board import BACK_OFF
from aimv2.sweeps.status.server import PageServer


@contextmanager
def served(read=lambda: "<p>page</p>", *, seconds=0.0):
    """Serve a page; give the function that requests it."""
    with PageServer("127.0.0.1", 0, read, "default-src 'none'", refresh_seconds=seconds) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

        def request(method="GET", path="/", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.putrequest(method, path, skip_host=True)
            for name, value in ({"Host": f"127.0.0.1:{server.server_port}"} | headers).items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read().decode()
            connection.close()
            return response, body

        request.server = server
        try:
            yield request
        finally:
            server.shutdown()


def test_page_has_headers_that_keep_it_to_itself():
    with served() as request:
        response, body = request()
        assert (response.status, body) == (200, "<p>page</p>")
        assert response.getheader("Content-Security-Policy") == "default-src 'none'"
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert response.getheader("Cache-Control") == "no-store"
        assert response.getheader("Content-Type") == "text/html; charset=utf-8"
        head, nothing = request("HEAD")
        assert (head.status, head.getheader("Content-Length"), nothing) == (200, "11", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(method):
    with served() as request:
        assert request(method)[0].status == 501


@pytest.mark.parametrize("path", ["/x", "/../etc/passwd", "/index.html"])
def test_there_is_one_address(path):
    with served() as request:
        assert request(path=path)[0].status == 404
        assert request(path="/?x=1")[0].status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("192.168.0.7:8000", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("rebound.example", 421),
        ("rebound.example:8000", 421),
        ("127.0.0.1.rebound.example", 421),
        ("localhost.rebound.example", 421),
        ("", 421),
        (None, 421),
    ],
)
def test_pages_of_other_sites_whose_names_point_here_see_nothing(host, status):
    with served() as request:
        response, body = request(Host=host)
        assert response.status == status
        assert ("page" in body) == (status == 200)


def test_many_viewers_share_a_reading():
    readings = []

    def read():
        readings.append(1)
        return f"page {len(readings)}"

    with served(read, seconds=3600.0) as request:
        assert {request()[1] for _ in range(5)} == {"page 1"}
    with served(read) as request:
        assert request()[1] != request()[1]


def test_a_slow_reading_is_repeated_rarely():
    times = []

    def read():
        times.append(time.monotonic())
        time.sleep(0.05)
        times.append(time.monotonic())
        return "page"

    with served(read) as request:
        while len(times) < 4:
            request()
    began, ended, again, _ = times
    assert again - ended >= BACK_OFF * (ended - began), "it takes 5 % of the time at most"


def test_a_reading_that_fails_is_its_sentence_escaped_and_the_next_one_may_succeed():
    answers = iter([UsageError("no sweep <b>x</b>"), "page"])

    def read():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with served(read) as request:
        response, body = request()
        assert response.status == 500
        assert "no sweep &lt;b&gt;x&lt;/b&gt;" in body
        assert request()[1] == "page"


@pytest.mark.parametrize("port", [None, 99999, -1])
def test_a_port_that_cannot_be_used_is_one_sentence(port):
    with served() as request:
        port = request.server.server_port if port is None else port
        with pytest.raises(UsageError, match=f"^port={port} of host=127.0.0.1 cannot be used: .*; type another port=$"):
            PageServer("127.0.0.1", port, str, "", refresh_seconds=1.0)
