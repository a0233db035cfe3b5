"""TCP ports of this machine's loopback: find a free one, name who holds a taken one."""

from __future__ import annotations

import socket

import psutil

from infra.kafka.settings import HOST


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Say whether a server could take this port of 127.0.0.1 now."""
    with socket.socket() as one:
        # As Kafka does: connections of an earlier broker that are still closing do not matter.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Say whether something accepts connections there."""
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def taken(port: int) -> str:
    """Return a sentence for a port that is taken, naming the program if it can be seen."""
    holder = ""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                holder = f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
                break
    except psutil.Error:  # Not ours to see.
        pass
    return f"Port {port} of {HOST} is taken{holder}: stop that program or choose another port."
