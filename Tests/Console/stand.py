"""What the console's tests stand on: a node with a database of its own, devices, a target and clients, all on
free ports of loopback and in a temporary directory, and the admin API to hold the page against."""

import http.client
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "Support"))
from ports import unused_port  # noqa: E402: found by the line above

WAIT_SECONDS = 60


def wait_for(what, probe, seconds=WAIT_SECONDS):
    """The first true answer of `probe`; its exceptions count as no answer."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            answer = probe()
            if answer:
                return answer
        except Exception as error:  # noqa: BLE001: told below, when there is no time left
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up waiting: {what}" + (f" ({last!r})" if last else ""))
        time.sleep(0.05)


class Target:
    """A target that sends for as long as it is read, and counts who came."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def serve(client):
        with client:
            try:
                while client.recv(1):
                    client.sendall(b"x" * 65536)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Relay:
    """Stands between the browser and the node, as a network does, and can be cut."""

    def __init__(self, port):
        self.target_port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.is_cut = False
        self.lock = threading.Lock()
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                try:
                    assert not self.is_cut
                    node = socket.create_connection(("127.0.0.1", self.target_port))
                except (AssertionError, OSError):
                    client.close()
                    continue
                self.open |= {client, node}
            for one, other in ((client, node), (node, client)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            self.end(end)

    def end(self, end):
        with self.lock:
            self.open.discard(end)
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()

    def cut(self):
        self.is_cut = True
        for end in list(self.open):
            self.end(end)

    def mend(self):
        self.is_cut = False

    def close(self):
        self.listener.close()
        self.cut()


class Client:
    """A SOCKS5 client; it knows whether its conn ended, and how."""

    def __init__(self, port, target_port, user=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.socket.sendall(b"\x05\x01\x02" if user else b"\x05\x01\x00")
        assert self.read(2)[1] == (2 if user else 0)
        if user:
            name = user.encode()
            self.socket.sendall(b"\x01" + bytes([len(name)]) + name + b"\x01x")
            assert self.read(2)[1] == 0
        self.socket.sendall(b"\x05\x01\x00\x01" + bytes([127, 0, 0, 1]) + struct.pack(">H", target_port))
        reply = self.read(10)
        assert reply[1] == 0, f"SOCKS5 reply {reply[1]}"

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "the conn ended"
            data += piece
        return data

    def move(self):
        """Has the target send a piece."""
        self.socket.sendall(b"x")
        self.read(65536)

    def ends_with(self):
        """How the other side ended the conn: "reset" or "finished"."""
        try:
            while self.socket.recv(65536):
                pass
            return "finished"
        except ConnectionResetError:
            return "reset"

    def close(self):
        self.socket.close()


class Problem(Exception):
    def __init__(self, status, document):
        super().__init__(f"{status} {document}")
        self.status = status
        self.document = document


class Stand:
    """The programs. `close` ends them in order and shows their logs when something went wrong."""

    def __init__(self, programs):
        self.programs = pathlib.Path(programs)
        self.folder = tempfile.TemporaryDirectory(prefix="pop-console-")
        self.path = pathlib.Path(self.folder.name)
        # The embedded database runs as another user, who has to get to its folder.
        self.path.chmod(0o755)
        self.processes = {}
        self.admin_port, self.ingress_port = unused_port(), unused_port()
        self.wss_port, self.quic_port = unused_port(), unused_port()
        self.target = Target()
        self.relay = Relay(self.admin_port)
        self.start_node()

    def start_node(self):
        environment = dict(os.environ, **{
            "POP_NODE_ID": "pop-test", "POP_NODE_LOCATION": '<b onclick="x">here</b>',
            "POP_DEVICE_WSS_PORT": str(self.wss_port), "POP_DEVICE_QUIC_PORT": str(self.quic_port),
            "POP_INGRESS_PORT": str(self.ingress_port), "POP_ADMIN_PORT": str(self.admin_port),
            "POP_DEVICE_LOAD_REPORT_INTERVAL_SECONDS": "1",
        })
        self.start("node", "pop-node", "serve", "--dev", "--data-dir", self.path / "pop", env=environment)
        wait_for("the node is ready", lambda: self.plain("/readyz") == 200)
        self.token = (self.path / "pop/admin.token").read_text().strip()

    def start_device(self, name, location="eu-west", tags=()):
        arguments = [argument for tag in tags for argument in ("--tag", tag)]
        self.start(
            name, "pop-device", "run", "--pop", f"wss://127.0.0.1:{self.wss_port}", "--device-id", name,
            "--location", location, "--tls-skip-verify", "--allow-target", "127.0.0.0/8", "--capacity", "40",
            *arguments)
        wait_for(f"{name} is whole", lambda: self.device(name)["health"] == "whole")

    def start(self, name, program, *arguments, env=None):
        with open(self.path / f"{name}.log", "w", encoding="utf8") as log:
            self.processes[name] = subprocess.Popen(
                [self.programs / program, *arguments], stdout=log, stderr=log, env=env)

    def stop(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(WAIT_SECONDS)

    def close(self, show_logs=False):
        for name in reversed(list(self.processes)):
            self.stop(name)
        self.target.close()
        self.relay.close()
        if show_logs:
            for log in sorted(self.path.glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()[-15:]
                print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)
        self.folder.cleanup()

    def client(self, user=None):
        return Client(self.ingress_port, self.target.port, user)

    # The admin API.

    def request(self, method, path, body=None, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=WAIT_SECONDS)
        headers = {"Authorization": f"Bearer {token or self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        document = json.loads(content) if content else None
        if answer.status >= 400:
            raise Problem(answer.status, document)
        return document

    def get(self, path, **query):
        suffix = "?" + urllib.parse.urlencode(query, doseq=True) if query else ""
        return self.request("GET", f"/v1/{path}{suffix}")

    def plain(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=WAIT_SECONDS)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status

    def device(self, name):
        return self.get(f"devices/{urllib.parse.quote(name, safe='')}")

    # The database.

    def sql(self, text):
        tools = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))
        url = (self.path / "pop/database.url").read_text().strip()
        subprocess.run(
            [tools[-1] if tools else "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", url],
            input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    def stop_database(self):
        """Ends the database as a crash would; the node has to do without."""
        pids = list((self.path / "pop/postgres").rglob("postmaster.pid"))
        os.kill(int(pids[0].read_text().split()[0]), signal.SIGQUIT)
