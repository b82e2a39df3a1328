"""Ports of loopback for programs under test."""

import random
import socket


def unused_port():
    """For TCP and UDP, below those that the system gives to connections: none takes it while its program is away."""
    while True:
        port = random.randrange(12_000, 32_000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            pass


if __name__ == "__main__":
    ports = set()
    while len(ports) < 4:
        ports.add(unused_port())
    print(*ports)
