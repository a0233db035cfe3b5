"""Writes of Google's XML interface as those of its JSON interface, for a server that has no other.

obstore writes by ``PUT /bucket/object`` with ``x-goog-if-generation-match`` and ``x-goog-meta-…``
(Cloud Storage, XML API, 'PUT Object'). fake-gcs-server takes that without its condition, so what
says "only if there is none" comes here first and goes on as a multipart upload with
``ifGenerationMatch``. Whether there is one the server decides. All else passes as it is. A server
that does not answer is one whose connection breaks.
"""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from urllib.parse import quote, unquote, urlsplit

from peer import HOST

ANSWER_S = 30.0
BOUNDARY = "part-of-an-upload"
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}


class Translator:
    """A server beside the one at ``target``; its port is ``port``."""

    def __init__(self, target: int) -> None:
        handler = type("Handler", (_Handler,), {"target": target})
        self._server = http.server.ThreadingHTTPServer((HOST, 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop; may be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = 0

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        bucket, _, name = urlsplit(self.path).path.lstrip("/").partition("/")
        condition = self.headers.get("x-goog-if-generation-match")
        kind = self.headers.get("Content-Type", "application/octet-stream")
        prefix = "x-goog-meta-"
        metadata = {
            key.lower().removeprefix(prefix): value
            for key, value in self.headers.items()
            if key.lower().startswith(prefix)
        }
        about = json.dumps({"name": unquote(name), "contentType": kind, "metadata": metadata})
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = (
            f"--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{about}\r\n"
            f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n"
        )
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={quote(unquote(name))}"
        if condition is not None:
            path += f"&ifGenerationMatch={condition}"
        headers = {"Content-Type": f"multipart/related; boundary={BOUNDARY}"}
        content = parts.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()
        self._pass("POST", path, content, headers)

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP}
        self._pass(self.command, self.path, b"", headers)

    def _pass(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        headers = headers | {"Host": f"{HOST}:{self.target}"}
        connection = http.client.HTTPConnection(HOST, self.target, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self.close_connection = True  # as the server's own would break
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        found = {k: v for k, v in answer.getheaders() if k.lower() not in HOP}
        if method == "POST" and answer.status == 200:
            made = json.loads(content)
            found |= {"ETag": made["etag"], "x-goog-generation": str(made["generation"])}
        for key, value in found.items():
            self.send_header(key, value)
        length = answer.getheader("Content-Length") if method == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)
