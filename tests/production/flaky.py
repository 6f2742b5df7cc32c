"""A proxy before the object store that fails or slows requests down."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>It broke.</Message></Error>'


class Flaky:
    """What the proxy does: `fails` says for each request, numbered from 1, whether it is answered with 500."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.fails: Callable[[int], bool] = lambda _: False
        self.delay = 0.0
        self.asked = self.failed = 0
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self) -> bool:
        """Count a request; return whether it fails."""
        with self._lock:
            self.asked += 1
            failing = self.fails(self.asked)
            self.failed += failing
        time.sleep(self.delay)
        return failing

    def _handler(flaky) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self._body()
                if flaky.take():
                    self._answer(500, {"Content-Type": "application/xml"}, _ERROR)
                    return
                kept = {
                    k: v for k, v in self.headers.items() if k.lower() not in ("host", "transfer-encoding", "expect")
                }
                behind = http.client.HTTPConnection(flaky.behind.removeprefix("http://"), timeout=60)
                behind.request(self.command, self.path, body, {**kept, "Content-Length": str(len(body))})
                answer = behind.getresponse()
                self._answer(answer.status, dict(answer.headers), answer.read())
                behind.close()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                size = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", size)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def flaky(behind: str) -> Iterator[Flaky]:
    """Run a proxy before a server."""
    made = Flaky(behind)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
