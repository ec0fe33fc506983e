"""Proxy: a real small one, by CONNECT and for http URLs, which leads every name to this host."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from urllib.parse import urlsplit


class _Handler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        line = self.rfile.readline()
        head = b""
        while (more := self.rfile.readline()) not in (b"\r\n", b""):
            head += more
        method, target, _ = line.decode().split(" ", 2)
        self.server.asked.append(target)
        port = int(target.rpartition(":")[2]) if method == "CONNECT" else urlsplit(target).port
        with socket.create_connection(("127.0.0.1", port or 80)) as upstream:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream.sendall(line + head + b"\r\n")
            thread = threading.Thread(target=self._pump, args=(upstream,), daemon=True)
            thread.start()
            with contextlib.suppress(OSError):
                while data := self.rfile.read1(65536):
                    upstream.sendall(data)
                upstream.shutdown(socket.SHUT_WR)
            thread.join(10)

    def _pump(self, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                self.wfile.write(data)
            self.connection.shutdown(socket.SHUT_WR)


class Proxy(socketserver.ThreadingTCPServer):
    """`asked`: to where it was asked to lead."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
