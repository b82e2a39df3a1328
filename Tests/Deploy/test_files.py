"""What stands in deploy/ is whole and valid, as far as this machine's tools can tell."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

import grafana
from cluster import ROOT

DEPLOY = ROOT / "deploy"


class FormatTests(unittest.TestCase):
    def test_json_and_yaml_can_be_read(self):
        for path in [*DEPLOY.rglob("*.json"), *DEPLOY.rglob("*.y*ml")]:
            with self.subTest(str(path.relative_to(ROOT))):
                text = path.read_text()
                json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)

    def test_scripts_can_be_parsed(self):
        for path in [*(ROOT / "scripts").iterdir(), *DEPLOY.rglob("*.sh")]:
            if path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/bash")):
                with self.subTest(path.name):
                    subprocess.run(["bash", "-n", path], check=True)

    def test_links_of_documents_lead_somewhere(self):
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *DEPLOY.rglob("*.md")]:
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
                with self.subTest(f"{path.relative_to(ROOT)} -> {target}"):
                    self.assertTrue((path.parent / target).exists())


class GrafanaTests(unittest.TestCase):
    def setUp(self):
        self.dashboards = grafana.dashboards()

    def test_names_are_unique_and_links_lead_to_dashboards(self):
        uids = [d["uid"] for d in self.dashboards]
        self.assertEqual(len(set(uids)), len(uids))
        self.assertGreaterEqual(len(uids), 7)
        for dashboard in self.dashboards:
            with self.subTest(dashboard["uid"]):
                for name in ("id", "title"):
                    names = [panel[name] for panel in dashboard["panels"]]
                    self.assertEqual(len(set(names)), len(names))
                for link in re.findall(r'"/d/([\w-]+)\?', json.dumps(dashboard)):
                    self.assertIn(link, uids)

    def test_panels_do_not_overlap(self):
        for dashboard in self.dashboards:
            taken = set()
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                with self.subTest(f"{dashboard['uid']}/{panel['title']}"):
                    self.assertLessEqual(place["x"] + place["w"], 24)
                    self.assertFalse(cells & taken)
                taken |= cells

    def test_all_of_them_ask_the_provisioned_source(self):
        source, = yaml.safe_load((grafana.FOLDER / "provisioning/datasources/pop.yaml").read_text())["datasources"]
        wanted = {"type": source["type"], "uid": source["uid"]}
        self.assertEqual(source["user"], "pop_dashboard")
        for dashboard, panel, target in grafana.panel_queries():
            with self.subTest(grafana.key(dashboard, panel, target)):
                self.assertEqual([panel["datasource"], target["datasource"]], [wanted, wanted])
                self.assertNotRegex(target["rawSql"], r"pop\.(?!dashboard_)")

    def test_variables_of_the_provisioning_are_set_by_compose(self):
        used = set()
        for path in (grafana.FOLDER / "provisioning").rglob("*.yaml"):
            used |= set(re.findall(r"\$\{(\w+)\}", path.read_text()))
        compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
        self.assertLessEqual(used, set(compose["services"]["grafana"]["environment"]))


class SystemdTests(unittest.TestCase):
    def units(self):
        """The units with a program in place of ours, which need not be installed here."""
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for path in (DEPLOY / "systemd").glob("*.service"):
            text = re.sub(r"^ExecStart=\S+", "ExecStart=/usr/bin/true", path.read_text(), flags=re.M)
            (folder / path.name).write_text(text)
        return sorted(folder.iterdir())

    def test_units_are_valid(self):
        result = subprocess.run(["systemd-analyze", "verify", *self.units()], capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_units_are_confined(self):
        for unit in self.units():
            # In tenths; 16 leaves room for systemd's next opinion.
            result = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", unit],
                capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stdout[-300:] + result.stderr)

    def test_users_of_the_units_are_made(self):
        made = re.findall(r"^u (\S+)", (DEPLOY / "sysusers.d" / "pop-node.conf").read_text(), flags=re.M)
        for unit in self.units():
            user, = re.findall(r"^User=(.*)$", unit.read_text(), flags=re.M)
            self.assertIn(user, made)


class DockerTests(unittest.TestCase):
    def setUp(self):
        # Instructions of the Dockerfile, continued lines joined.
        text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
        self.instructions = [line.split(None, 1) for line in text.splitlines() if line.strip()]

    def test_stages_start_from_known_ones_and_end_without_root(self):
        stages, user, current = {}, None, None
        for name, rest in self.instructions:
            if name == "FROM":
                base, _, stage = rest.partition(" AS ")
                # A stage of ours, or an image with a version.
                self.assertTrue(base in stages or ":" in base, base)
                self.assertNotIn("latest", base)
                user = stages.get(base)
                current = stage.strip()
            elif name == "USER":
                user = rest
            if current:
                stages[current] = user
        for stage in ("node", "device", "tools"):
            self.assertIn(stages[stage], ("pop-node", "pop-device"), stage)
        self.assertEqual(current, "node")

    def test_instructions_are_known_and_copied_files_are_there(self):
        known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "FROM", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
        context = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for name, rest in self.instructions:
            self.assertIn(name, known)
            if name == "RUN":
                subprocess.run(["sh", "-n", "-c", rest], check=True)
            if name in ("CMD", "ENTRYPOINT"):
                self.assertTrue(json.loads(rest))
            if name == "COPY" and "--from=" not in rest:
                for source in rest.split()[:-1]:
                    self.assertTrue((ROOT / source).exists(), source)
                    self.assertIn(source.split("/")[0], context)

    def test_compose_refers_to_what_it_has(self):
        compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
        services = compose["services"]
        stages = re.findall(r"^FROM .* AS (\w+)", (ROOT / "Dockerfile").read_text(), flags=re.M)
        for name, service in services.items():
            with self.subTest(name):
                for other in service.get("depends_on", {}):
                    self.assertIn(other, services)
                if "build" in service:
                    self.assertIn(service["build"]["target"], stages)
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    if source.startswith("."):
                        self.assertTrue((DEPLOY / "docker" / source).exists(), source)
                    else:
                        self.assertIn(source, compose["volumes"])
                for port in service.get("ports", []):
                    self.assertTrue(port.startswith("127.0.0.1:"))

    def test_compose_is_taken_by_docker(self):
        if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
            self.skipTest("the docker client here has no compose")
        secrets = {name: "x" for name in re.findall(r"^(\w+)=", (DEPLOY / "docker" / "example.env").read_text(), re.M)}
        result = subprocess.run(
            ["docker", "compose", "--file", DEPLOY / "docker" / "compose.yaml", "config", "--quiet"],
            env=secrets | {"PATH": "/usr/local/bin:/usr/bin:/bin"}, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
