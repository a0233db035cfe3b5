"""moto: Amazon's S3 in a process, spoken to by HTTP.

    with MotoS3(tmp_path) as peer:
        peer.make_bucket("photos")
        BlobStore.open("s3://photos/north")     # with peer.environment() in the environment

Of PyPI, in an environment of its own beside ours (s3-server.requirements.txt, hashes): its
libraries want versions that ours do not. It keeps its objects in memory.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path

from peer import HOST, Peer, PeerMissing, answers, free_port

from benchmarks.streams.environment import locked_environment
from schemas.errors import BrokerError

REQUIREMENTS = Path(__file__).with_name("s3-server.requirements.txt")


def server_python() -> Path:
    """Return the Python of the environment that has moto; made at the first call."""
    try:
        return locked_environment("s3-server", REQUIREMENTS, exact=True)
    except BrokerError as error:
        raise PeerMissing(f"moto is not to be had here: {error}") from error


class MotoS3(Peer):
    """The server."""

    name = "moto"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.start([str(server_python()), "-m", "moto.server", "-H", HOST, "-p", str(self.port)])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ready(self) -> bool:
        """It lists its buckets."""
        request = b"GET / HTTP/1.0\r\nHost: s3.amazonaws.com\r\n\r\n"
        return answers(self.port, request, b"ListAllMyBucketsResult")

    def environment(self) -> dict[str, str]:
        """Return the variables by which obstore finds it and is let in."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
