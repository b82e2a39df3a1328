"""Every query of every panel, asked as pop_dashboard of a seeded PostgreSQL, its answer held to the tables' rows."""

import datetime
import math
import unittest

import grafana
from answers import ANYTHING, NODES, PROTOCOLS, SILENT_NODE, Answers, Near
from cluster import Cluster, SQLError, query
from fleet import Database, Fleet, Series

RANGES = {
    # Steps of 1, 5, 30, 60 and 120 minutes; one ends in the past.
    "some hours": (datetime.timedelta(hours=5), datetime.timedelta(0)),
    "two days": (datetime.timedelta(hours=46), datetime.timedelta(hours=1)),
    "a week": (datetime.timedelta(days=7), datetime.timedelta(0)),
    "two weeks": (datetime.timedelta(days=14), datetime.timedelta(0)),
    "a month": (datetime.timedelta(days=30), datetime.timedelta(0)),
}


class DashboardTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.database = Database(cls.cluster, "dashboards")
        cls.database.seed("--devices", "40", "--days", "2")
        cls.fleet = Fleet(cls.database)
        cls.now = datetime.datetime.now(datetime.timezone.utc)

    def context(self, panel, span, ago, **variables):
        end = self.now - ago
        interval = grafana.interval_milliseconds(
            end - span, end, panel.get("maxDataPoints", 300), panel.get("interval", "1m"))
        return grafana.Context(end - span, end, interval, variables)

    def check(self, span, ago, node, device):
        answers = {}
        for dashboard, panel, target in grafana.panel_queries():
            key = grafana.key(dashboard, panel, target)
            several = key.startswith(("traffic/", "conns/"))
            context = self.context(panel, span, ago, node=NODES if several else node, device=device,
                                   protocol=PROTOCOLS)
            with self.subTest(key, node=node, interval=context.interval_ms):
                answer = [list(row.values()) for row in self.database.ask(context.expand(target["rawSql"]))]
                if context.interval_ms not in answers:
                    answers[context.interval_ms] = Answers(
                        self.fleet, Series(context), node, device, round(self.now.timestamp() * 1_000_000))
                self.assert_same(answer, answers[context.interval_ms].of(key))

    def test_every_panel_answers_what_the_rows_say(self):
        for name, (span, ago) in RANGES.items():
            with self.subTest(name):
                self.check(span, ago, "pop-2", "dev-000007")

    def test_panels_of_a_silent_node_and_its_devices_say_since_when(self):
        device = next(d.device_id for d in self.fleet.devices
                      if d.node_id == SILENT_NODE and d.status == "online")
        self.check(datetime.timedelta(hours=6), datetime.timedelta(0), SILENT_NODE, device)

    def test_panels_of_an_offline_device_show_no_live_figures(self):
        self.check(datetime.timedelta(hours=6), datetime.timedelta(0), "pop-1", "dev-000010")

    def test_variables_list_the_nodes(self):
        for dashboard in grafana.dashboards():
            for variable in dashboard["templating"]["list"]:
                if variable["type"] == "query":
                    rows = self.database.ask(variable["query"])
                    self.assertEqual([list(row.values()) for row in rows], [[name] for name in NODES])

    def test_the_role_reads_views_of_dashboards_and_nothing_else(self):
        names = [row["name"] for row in self.database.rows(
            "SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = 'pop'::regnamespace "
            "AND c.relkind IN ('r', 'p', 'v', 'm', 'S') ORDER BY 1")]
        readable = []
        for name in names:
            try:
                query(self.database.dashboard_url, f"SELECT count(*) FROM pop.{name}")
                readable.append(name)
            except SQLError as error:
                self.assertIn("permission denied", str(error))
        views = [name for name in names if name.startswith("dashboard_")]
        self.assertEqual(readable, views)
        self.assertGreater(len(views), 12)
        for statement in ("DELETE FROM pop.dashboard_devices", "CREATE TABLE pop.mine ()",
                          "SELECT pop.refresh_rollups(30)"):
            with self.assertRaises(SQLError, msg=statement):
                query(self.database.dashboard_url, statement)

    def test_views_of_live_state_tell_their_age(self):
        columns = {(row["view"], row["name"]) for row in self.database.rows(
            "SELECT table_name AS view, column_name AS name FROM information_schema.columns "
            "WHERE table_schema = 'pop' AND table_name LIKE 'dashboard\\_%'")}
        for view in ("nodes", "devices", "sessions", "drains", "store_writers"):
            self.assertIn((f"dashboard_{view}", "age_seconds"), columns)

    # Comparison

    def assert_same(self, answer, expected):
        if expected is ANYTHING:
            self.assertTrue(answer)
            return
        self.assertEqual(len(answer), len(expected), f"{answer[:3]} ... and not {expected[:3]} ...")
        for number, (row, wanted) in enumerate(zip(answer, expected)):
            self.assertEqual(len(row), len(wanted), row)
            for value, want in zip(row, wanted):
                self.assertTrue(self.is_same(value, want), f"row {number}: {row} is not {wanted}")

    @staticmethod
    def is_same(value, want):
        if want is ANYTHING:
            return True
        if value is None or want is None:
            return value is want
        if isinstance(want, Near):
            return abs(float(value) - want.value) <= want.tolerance
        if isinstance(want, datetime.datetime):
            # Python 3.10 wants the minutes of an offset as well.
            return datetime.datetime.fromisoformat(value + ":00") == want
        if isinstance(want, (int, float)):
            return math.isclose(float(value), want, rel_tol=1e-9, abs_tol=1e-9)
        return value == want


if __name__ == "__main__":
    unittest.main()
