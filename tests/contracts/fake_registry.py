"""A Schema Registry in memory, over real sockets: the part of Confluent's REST interface we use.

Honest where it matters: ids are one sequence over all subjects, an equal schema gets the same id
again whatever the subject, an incompatible one is refused with 409 (the rule here: no field may be
removed), an unknown one is 404 with Confluent's own error codes. Faults are injected by ``fail``.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class FakeRegistry:
    """Runs from ``with`` to its end on a port that the kernel chose."""

    def __init__(self):
        self.ids: dict[str, int] = {}
        self.subjects: dict[str, list[str]] = {}
        self.types: dict[int, str] = {}
        self.requests: list[str] = []
        self.fail: tuple[int, str] | None = None
        self._lock = threading.Lock()

    def __enter__(self):
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self):
                self._answer(*registry.answer("GET", self.path, {}))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*registry.answer("POST", self.path, json.loads(body)))

            def _answer(self, status, body):
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, text, schema_type="AVRO"):
        """Store a schema under no subject of ours; return its id."""
        schema_id = self.ids.setdefault(text, len(self.ids) + 1)
        self.types[schema_id] = schema_type
        return schema_id

    def answer(self, method, path, body):
        """Return (HTTP status, JSON body or text)."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.fail is not None:
                return self.fail
            path = urlsplit(path).path
            if method == "GET" and (found := re.fullmatch(r"/schemas/ids/(\d+)", path)):
                return self._get(int(found[1]))
            if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)/versions", path)):
                return self._register(unquote(found[1]), body["schema"])
            if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)", path)):
                return self._lookup(unquote(found[1]), body["schema"])
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _get(self, schema_id):
        for text, known in self.ids.items():
            if known == schema_id:
                answer = {"schema": text}
                if self.types.get(known, "AVRO") != "AVRO":
                    answer["schemaType"] = self.types[known]
                return 200, answer
        return 404, {"error_code": 40403, "message": f"Schema {schema_id} not found"}

    def _register(self, subject, text):
        versions = self.subjects.setdefault(subject, [])
        if text not in versions:
            fields = {field["name"] for field in json.loads(text)["fields"]}
            for old in versions:
                lost = {field["name"] for field in json.loads(old)["fields"]} - fields
                if lost:
                    message = f"Schema being registered is incompatible: {sorted(lost)} lost"
                    return 409, {"error_code": 409, "message": message}
            versions.append(text)
        return 200, {"id": self.put(text)}

    def _lookup(self, subject, text):
        versions = self.subjects.get(subject)
        if versions is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        if text not in versions:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        version = versions.index(text) + 1
        return 200, {"subject": subject, "id": self.ids[text], "version": version, "schema": text}
