"""The compose file's nodes and devices as real programs on loopback: its configuration works, and dashboards show it."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

import grafana
from cluster import ROOT, Cluster, query, run_sql
from fleet import program

sys.path.append(str(ROOT / "Tests" / "Support"))
from ports import unused_port  # noqa: E402: found by the line above

DOCKER = ROOT / "deploy" / "docker"
TOKEN = "compose-test-token"


class ComposeTests(unittest.TestCase):
    def setUp(self):
        self.services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pop-compose-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.cluster = Cluster()
        self.addCleanup(self.cluster.close)
        run_sql(self.cluster.url("postgres"), "CREATE DATABASE pop; CREATE ROLE pop_dashboard LOGIN")
        self.processes = {}
        self.addCleanup(self.stop)
        # The certificates that compose makes, good for loopback, too.
        command = self.services["certificates"]["command"][0].split("&&")[0]
        command = re.sub(r"--node (\S+)", r"--node \1,127.0.0.1", command)
        command = command.replace("/certificates", str(self.folder / "tls"))
        subprocess.run(f"{ROOT}/scripts/{command}", shell=True, check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait()

    def start(self, name, binary, arguments, environment):
        """As compose does, with paths and secrets of this test."""
        declared = dict(self.services[name]["environment"])
        for key, value in declared.items():
            value = value.replace("/etc/pop-node/tls", str(self.folder / "tls"))
            declared[key] = value.replace("/etc/pop-device/tls", str(self.folder / "tls"))
        with open(self.folder / f"{name}.log", "a") as log:
            self.processes[name] = subprocess.Popen(
                [program(binary), *arguments], env={"PATH": "/usr/bin:/bin"} | declared | environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_node(self, name):
        ports = {
            "POP_DEVICE_WSS_PORT": unused_port(), "POP_DEVICE_QUIC_PORT": unused_port(),
            "POP_INGRESS_PORT": unused_port(), "POP_ADMIN_PORT": unused_port(),
        }
        self.start(name, "pop-node", ["serve", "--config", DOCKER / "pop-node.json"], {
            "POP_ADMIN_TOKEN": TOKEN, "POP_DATABASE_URL": self.cluster.url(),
            "POP_NODE_DATA_DIR": str(self.folder / name), "POP_NODE_ADVERTISE_HOST": "127.0.0.1",
            "POP_DEVICE_TLS_CLIENT_CA_FILE": str(self.folder / "tls" / "device-ca.pem"),
            "POP_DEVICE_BIND": "127.0.0.1", "POP_INGRESS_BIND": "127.0.0.1", "POP_ADMIN_BIND": "127.0.0.1",
        } | {key: str(port) for key, port in ports.items()})
        return ports["POP_DEVICE_WSS_PORT"], ports["POP_ADMIN_PORT"]

    def wait(self, what, condition, seconds=60):
        limit = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            if time.monotonic() > limit or any(p.poll() is not None for p in self.processes.values()):
                logs = "\n".join(path.read_text()[-2_000:] for path in self.folder.glob("*.log"))
                self.fail(f"not seen: {what}\n{logs}")
            # Only bounds the load of the polling.
            time.sleep(0.1)

    def get(self, port, path):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def panel(self, key):
        sql, = [target["rawSql"] for dashboard, panel, target in grafana.panel_queries()
                if grafana.key(dashboard, panel, target) == key]
        return query(self.cluster.url(user="pop_dashboard"), sql)

    def test_three_nodes_and_two_devices_and_a_node_that_falls_silent(self):
        nodes = {name: self.start_node(name) for name in ("node-1", "node-2", "node-3")}
        self.wait("all nodes are in the dashboards",
                  lambda: self.table_exists() and self.panel("fleet/Nodes") == [{"serving": "3", "silent": "0"}])
        pops = ",".join(f"wss://127.0.0.1:{wss}" for wss, _ in nodes.values())
        for name in ("device-1", "device-2"):
            self.start(name, "pop-device", ["run", "--config", DOCKER / "pop-device.json"], {
                "POP_AGENT_POPS": pops, "POP_AGENT_CA_FILE": str(self.folder / "tls" / "node-ca.pem")})
        admin = nodes["node-3"][1]

        def online():
            items = self.get(admin, "/v1/devices?status=online")["items"]
            return sorted((d["device_id"], d["health"]) for d in items)

        self.wait("any node knows both devices",
                  lambda: online() == [("device-1", "whole"), ("device-2", "whole")])
        for path in self.folder.glob("*.log"):
            self.assertNotIn("unknown environment variable", path.read_text())
        self.wait("the panels show them", lambda: self.panel("fleet/Devices") == [
            {"online": "2", "unknown, node silent": "0", "offline": "0"}])

        # A node without devices: nothing else tells of its end.
        holders = {row["node_id"] for row in query(self.cluster.url(), "SELECT node_id FROM pop.devices")}
        silent = next(name for name in nodes if name.replace("node", "pop") not in holders)
        killed = self.processes.pop(silent)
        killed.kill()
        killed.wait()

        def statuses():
            return {row["node"]: row["status"] for row in self.panel("fleet/Nodes now")}

        self.wait("the panel says since when it is silent",
                  lambda: statuses()[silent.replace("node", "pop")].startswith("silent since "))
        self.assertEqual(sorted(statuses().values())[:2], ["active", "active"])
        self.assertEqual(self.panel("fleet/Nodes"), [{"serving": "2", "silent": "1"}])

    def table_exists(self):
        rows = query(self.cluster.url(), "SELECT to_regclass('pop.dashboard_store') IS NOT NULL AS there, "
                                         "(SELECT count(*) FROM pg_roles WHERE rolname = 'pop_dashboard') AS role")
        return rows == [{"there": "t", "role": "1"}]


if __name__ == "__main__":
    unittest.main()
