"""Every alert rule's SQL, asked as pop_dashboard: quiet while all is well, and loud of what is not."""

import unittest

import yaml

from cluster import ROOT, Cluster, Session, query, run_sql
from fleet import Database

RULES = ROOT / "deploy" / "grafana" / "provisioning" / "alerting" / "pop.yaml"

MOST_CONNECTIONS = 30

# How to bring each rule about, and the labels of its alerts then.
SILENCE = "UPDATE pop.nodes SET last_seen_at = now() - interval '1 minute' WHERE node_id = 'pop-2'"
ENDED = "UPDATE pop.device_sessions SET ended_at = now(), end_reason = '{}' WHERE ended_at IS NULL"
CONN = """INSERT INTO pop.conns SELECT md5(i || 'x')::uuid, 'pop-1', 'd', md5('s')::uuid, '', 'http', '', '', NULL, now(),
    now(), 1, 1, CASE WHEN i <= {} THEN 'target_reset' ELSE 'finished' END FROM generate_series(1, 200) i"""
CASES = {
    "pop-node-silent": (SILENCE, [{"node": "pop-2"}]),
    "pop-store-behind": ("DELETE FROM pop.node_load WHERE node_id = 'pop-1' AND sampled_at > now() - interval '70 s'",
                         [{"node": "pop-1"}]),
    "pop-drain-overdue": ("UPDATE pop.drains SET deadline_at = now() - interval '2 minutes' WHERE ended_at IS NULL "
                          "AND node_id = 'pop-2'", [{"node": "pop-2"}]),
    "pop-sessions-lost": (ENDED.format("heartbeat_lost"), [{}]),
    "pop-devices-fewer": ("UPDATE pop.nodes SET devices_online = 7", [{}]),
    "pop-conns-fail": (CONN.format(150), [{}]),
    "pop-processor-busy": ("UPDATE pop.node_load_rollups SET cpu_utilization = 0.95 WHERE node_id = 'pop-1'",
                           [{"node": "pop-1"}]),
    "pop-round-trips": ("UPDATE pop.devices SET rtt_ms = 1500 WHERE device_id > 'dev-000020'", [{}]),
    "pop-partitions-end": ("""DO $$ DECLARE p text; BEGIN FOR p IN SELECT relname FROM pg_class
        WHERE relname ~ '^conns_[0-9]{8}$' AND to_date(right(relname, 8), 'YYYYMMDD') > now() AT TIME ZONE 'UTC'
        LOOP EXECUTE 'DROP TABLE pop.' || p; END LOOP; END $$""", [{"table": "conns"}]),
    "pop-rows-without-partition": (
        "INSERT INTO pop.conns SELECT md5('late')::uuid, 'pop-1', 'd', md5('s')::uuid, '', 'http', '', '', NULL, "
        "now() - interval '1 year', now() - interval '1 year', 1, 1, 'finished'", [{"table": "conns"}]),
    "pop-rollups-late": ("INSERT INTO pop.load_hours_due VALUES (now() - interval '5 hours')", [{}]),
    "pop-connections-used-up": (None, [{}]),
}
# What looks like it and is none.
QUIET = {
    "pop-node-silent": "UPDATE pop.nodes SET state = 'down', last_seen_at = now() - interval '1 hour' "
                       "WHERE node_id = 'pop-2'",
    "pop-store-behind": "DELETE FROM pop.node_load WHERE node_id = 'pop-1' AND sampled_at > now() - interval '40 s'",
    "pop-sessions-lost": ENDED.format("drained"),
    "pop-devices-fewer": "UPDATE pop.nodes SET devices_online = 12",
    "pop-conns-fail": CONN.format(80),
    "pop-rollups-late": "INSERT INTO pop.load_hours_due VALUES (now())",
}


class AlertTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(settings=[f"max_connections={MOST_CONNECTIONS}", "superuser_reserved_connections=1"])
        cls.addClassCleanup(cls.cluster.close)
        database = Database(cls.cluster, "well")
        database.seed("--devices", "30", "--nodes", "2")
        # The seed ends with a node that is silent and a drain that is late.
        database.run("""
            DELETE FROM pop.drains WHERE deadline_at < now() AND ended_at IS NULL;
            UPDATE pop.nodes SET state = 'active';
            INSERT INTO pop.node_load
            SELECT node_id, t, 15, 3, extract(epoch FROM t) * 1000, 0, 0.5, 1
            FROM pop.nodes, generate_series(now() - interval '15 minutes', now() + interval '10 minutes', '10 s') t
            ON CONFLICT DO NOTHING;
            UPDATE pop.nodes SET devices_online = 15""")
        cls.rules = {
            rule["uid"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}

    def copy(self, *changes):
        """A database of its own in which all is well but for these changes; its URL for a dashboard."""
        name = self._testMethodName[5:25] + str(len(self.copies))
        run_sql(self.cluster.url("postgres"), f"CREATE DATABASE {name} TEMPLATE well")
        self.copies.append(name)
        now = "UPDATE pop.nodes SET last_seen_at = now(); DELETE FROM pop.node_load WHERE sampled_at > now();"
        run_sql(self.cluster.url(name), now + "; ".join(c for c in changes if c))
        return self.cluster.url(name, user="pop_dashboard")

    def setUp(self):
        self.copies = []

    def alerts(self, uid, url):
        """The labels of each alert, as Grafana makes them of the rule's rows."""
        rule = self.rules[uid]
        question, threshold = rule["data"]
        evaluator = threshold["model"]["conditions"][0]["evaluator"]
        limit, = evaluator["params"]
        self.assertEqual(rule["condition"], threshold["refId"])
        self.assertEqual(threshold["model"]["expression"], question["refId"])
        firing = []
        for row in query(url, question["model"]["rawSql"]):
            *labels, (_, value) = row.items()
            is_over = {"gt": float(value) > limit, "lt": float(value) < limit}[evaluator["type"]]
            if is_over:
                firing.append(dict(labels))
        return firing

    def test_nothing_fires_while_all_is_well(self):
        url = self.copy()
        for uid in self.rules:
            with self.subTest(uid):
                self.assertEqual(self.alerts(uid, url), [])

    def test_each_rule_fires_of_what_it_is_for(self):
        self.assertEqual(set(self.rules), set(CASES))
        for uid, (change, labels) in CASES.items():
            with self.subTest(uid):
                url = self.copy(change)
                sessions = []
                if uid == "pop-connections-used-up":
                    owner = url.replace("pop_dashboard@", "pop@")
                    sessions = [Session(owner) for _ in range(MOST_CONNECTIONS - 2)]
                try:
                    for session in sessions:
                        session.run("SELECT 1")
                    self.assertEqual(self.alerts(uid, url), labels)
                finally:
                    for session in sessions:
                        session.close()

    def test_what_only_looks_like_it_fires_nothing(self):
        for uid, change in QUIET.items():
            with self.subTest(uid):
                self.assertEqual(self.alerts(uid, self.copy(change)), [])

    def test_rules_can_be_provisioned(self):
        self.assertNotIn("$", RULES.read_text().split("apiVersion", 1)[1])
        for uid, rule in self.rules.items():
            with self.subTest(uid):
                self.assertTrue((ROOT / rule["annotations"]["runbook"]).is_file())
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertEqual([data["datasourceUid"] for data in rule["data"]], ["pop", "__expr__"])
                self.assertEqual([data["refId"] for data in rule["data"]],
                                 [data["model"]["refId"] for data in rule["data"]])


if __name__ == "__main__":
    unittest.main()
