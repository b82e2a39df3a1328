"""Rollups are exact whatever is written late, twice, anew or at the same time."""

import os
import random
import subprocess
import unittest

from cluster import ROOT, Cluster, Session, postgres_program, query, run_sql
from fleet import Database

# What the views say less what the rows say, and the other way round; no row is good.
DIFFERENCES = {
    "conns": """
        SELECT s.seconds, pop.rollup_bucket(ended_at, s.seconds), node_id, protocol, end_reason, count(*),
            sum(bytes_sent), sum(bytes_received), round(sum(extract(epoch FROM ended_at - opened_at))::numeric, 3),
            count(*) FILTER (WHERE ended_at - opened_at < interval '1 second'),
            count(*) FILTER (WHERE ended_at - opened_at >= interval '600 seconds')
        FROM pop.conns CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) s(seconds) GROUP BY 1, 2, 3, 4, 5 |
        SELECT step_seconds, bucket_at, node_id, protocol, end_reason, conns, bytes_sent, bytes_received,
            round(duration_seconds::numeric, 3), under_1s, longer FROM pop.dashboard_conn_rates""",
    "sessions": """
        SELECT s.seconds, pop.rollup_bucket(at, s.seconds), node_id, event, count(*),
            round(sum(duration)::numeric, 3)
        FROM (
            SELECT started_at AS at, node_id, 'started' AS event, 0 AS duration FROM pop.device_sessions
            UNION ALL
            SELECT ended_at, node_id, end_reason, extract(epoch FROM ended_at - started_at)
            FROM pop.device_sessions WHERE ended_at IS NOT NULL
        ) e CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) s(seconds) GROUP BY 1, 2, 3, 4 |
        SELECT step_seconds, bucket_at, node_id, event, sessions, round(duration_seconds::numeric, 3)
        FROM pop.dashboard_session_rates WHERE sessions <> 0""",
    "node load": """
        SELECT s.seconds, pop.rollup_bucket(sampled_at, s.seconds), node_id, count(*),
            round(avg(devices_online)::numeric, 6), max(conns_active), sum(sent), sum(received)
        FROM (
            SELECT *, CASE WHEN bytes_sent >= previous_sent THEN bytes_sent - previous_sent ELSE bytes_sent END AS sent,
                CASE WHEN bytes_received >= previous_received THEN bytes_received - previous_received
                    ELSE bytes_received END AS received
            FROM (
                SELECT *, lag(bytes_sent, 1, 0::bigint) OVER w AS previous_sent,
                    lag(bytes_received, 1, 0::bigint) OVER w AS previous_received
                FROM pop.node_load WINDOW w AS (PARTITION BY node_id ORDER BY sampled_at)
            ) l
        ) l CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) s(seconds) GROUP BY 1, 2, 3 |
        SELECT step_seconds, bucket_at, node_id, samples, round(devices_online::numeric, 6), conns_active_max,
            bytes_sent, bytes_received FROM pop.dashboard_node_rates""",
    "device load": """
        SELECT device_id, date_trunc('hour', sampled_at, 'UTC'), session_id, count(*),
            round(avg(active_conns)::numeric, 6), max(active_conns), max(bytes_sent), round(avg(rtt_ms)::numeric, 6)
        FROM pop.device_load GROUP BY 1, 2, 3 |
        SELECT device_id, at, session_id, samples, round(active_conns::numeric, 6), active_conns_max, bytes_sent,
            round(rtt_ms::numeric, 6)
        FROM pop.dashboard_device_load WHERE step_seconds = 3600""",
}


class RollupTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)

    def database(self):
        return Database(self.cluster, "rollups_" + self._testMethodName.removeprefix("test_")[:40])

    def session(self, database):
        session = Session(database.owner_url)
        self.addCleanup(session.close)
        return session

    def assert_exact(self, database):
        for name, queries in DIFFERENCES.items():
            rows, view = queries.split(" |\n")
            for first, second in ((rows, view), (view, rows)):
                self.assertEqual(database.rows(f"SELECT * FROM ({first} EXCEPT {second}) d LIMIT 3"), [], name)

    def test_whatever_comes_in_whatever_order(self):
        seed = int(os.environ.get("POP_TEST_SEED") or random.randrange(2**32))
        print(f"POP_TEST_SEED={seed}")
        generator = random.Random(seed)
        database = self.database()
        session = self.session(database)
        hours = 6
        for step in range(60):
            begun = [f"now() - interval '{generator.randrange(1, hours * 3_600_000)} milliseconds'" for _ in range(8)]
            statements = {
                "conns": "INSERT INTO pop.conns SELECT md5(random()::text)::uuid, 'n' || i % 2, 'd' || i % 3, "
                         f"md5('s')::uuid, '', 'http', '', '', NULL, {begun[0]}, {begun[1]}, i, i * 2, 'finished' "
                         "FROM generate_series(1, 5) i".replace(
                             begun[0], f"least({begun[0]}, {begun[1]})"),
                "same conn": "INSERT INTO pop.conns SELECT md5('same')::uuid, 'n1', 'd', md5('s')::uuid, '', 'udp', '', "
                             "'', NULL, now(), date_trunc('day', now(), 'UTC'), 1, 1, 'idle' ON CONFLICT DO NOTHING"
                             .replace("NULL, now()", "NULL, date_trunc('day', now(), 'UTC') - interval '1 s'"),
                "start": "INSERT INTO pop.device_sessions (session_id, device_id, node_id, node_incarnation, "
                         "session_epoch, started_at, last_seen_at) SELECT md5(random()::text)::uuid, 'd' || i, "
                         f"'n' || i % 2, md5('n')::uuid, i, {begun[2]}, now() FROM generate_series(1, 4) i",
                "count": "UPDATE pop.device_sessions SET bytes_sent = bytes_sent + 1",
                "end": f"UPDATE pop.device_sessions SET ended_at = greatest(started_at, {begun[3]}), "
                       "end_reason = CASE WHEN session_id::text < '8' THEN 'goodbye' ELSE 'node_lost' END "
                       f"WHERE ended_at IS NULL AND session_id::text > '{generator.randrange(16):x}'",
                "open again": "UPDATE pop.device_sessions SET ended_at = NULL, end_reason = NULL "
                              f"WHERE end_reason = 'node_lost' AND session_id::text > '{generator.randrange(16):x}'",
                "sample": f"INSERT INTO pop.node_load SELECT 'n' || i % 2, {begun[4]} + i * interval '10 s', i, i * 2, "
                          f"{generator.randrange(1_000_000)} + i, {generator.randrange(1_000_000)} + i, 0.5, 1000 "
                          "FROM generate_series(1, 6) i ON CONFLICT DO NOTHING",
                "load": f"INSERT INTO pop.device_load SELECT 'd' || i, md5('s' || i)::uuid, 'n1', {begun[5]}, i, i * 10, "
                        "i * 20, 0.5, 100, 200, i * 3 FROM generate_series(1, 4) i ON CONFLICT DO NOTHING",
                "refresh": "SELECT pop.refresh_rollups(30)",
            }
            name = generator.choice(list(statements))
            if generator.random() < 0.1:
                session.run(f"BEGIN; {statements[name]}; ROLLBACK")
            else:
                session.run(statements[name])
            if step % 12 == 11:
                self.assert_exact(database)
        while session.run("SELECT pop.refresh_rollups(30)") != "0":
            pass
        self.assert_exact(database)

    LOAD = ("INSERT INTO pop.device_load VALUES ('d', md5('s')::uuid, 'n', "
            "date_trunc('hour', now(), 'UTC') - interval '3 hours' + {} * interval '1 second', 1, 1, 1, 0, 1, 1, {})")

    def rolled_up(self, database):
        return database.rows("SELECT samples FROM pop.device_load_hours")

    def test_a_report_that_comes_late_is_in_the_view_at_once_and_in_the_rollup_later(self):
        database = self.database()
        database.run(self.LOAD.format(1, 5) + "; SELECT pop.refresh_rollups(30)")
        self.assertEqual(self.rolled_up(database), [{"samples": "1"}])
        database.run(self.LOAD.format(2, 7))
        self.assertEqual(self.rolled_up(database), [{"samples": "1"}])
        self.assert_exact(database)
        database.run("SELECT pop.refresh_rollups(30)")
        self.assertEqual(self.rolled_up(database), [{"samples": "2"}])
        self.assert_exact(database)

    def test_a_refresh_waits_for_reports_that_are_being_written(self):
        database = self.database()
        database.run(self.LOAD.format(1, 5))
        writer, upkeep = self.session(database), self.session(database)
        writer.run("BEGIN; " + self.LOAD.format(2, 7))
        upkeep.run("SET application_name = 'upkeep'")
        upkeep.begin("SELECT pop.refresh_rollups(30)")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'upkeep' AND wait_event_type = 'Lock'"
        self.assertTrue(any(database.rows(waiting) for _ in range(500)), "the refresh does not wait")
        writer.run("COMMIT")
        self.assertEqual(upkeep.end(), "0")
        self.assertEqual(self.rolled_up(database), [{"samples": "2"}])
        self.assert_exact(database)

    def test_no_writer_waits_for_a_refresh(self):
        database = self.database()
        database.run(self.LOAD.format(1, 5))
        writer, upkeep = self.session(database), self.session(database)
        upkeep.run("BEGIN")
        self.assertEqual(upkeep.run("SELECT pop.refresh_rollups(30)"), "0")
        # Fails at once where it had to wait.
        writer.run("SET lock_timeout = '1ms'")
        writer.run(self.LOAD.format(2, 7))
        self.assertEqual(self.session(database).run("SELECT pop.refresh_rollups(30) IS NULL"), "t")
        upkeep.run("COMMIT")
        self.assert_exact(database)
        database.run("SELECT pop.refresh_rollups(30)")
        self.assertEqual(self.rolled_up(database), [{"samples": "2"}])

    def test_what_is_older_than_the_retention_goes(self):
        database = self.database()
        database.seed("--devices", "4", "--days", "3")
        database.run("SELECT pop.refresh_rollups(1)")
        tables = ["conn_rollups", "session_rollups", "node_load_rollups", "device_load_hours", "rtt_hours"]
        for table in tables:
            column = "hour_at" if "hours" in table else "bucket_at"
            rows = database.rows(
                f"SELECT min({column}) >= date_trunc('day', now(), 'UTC') - interval '1 day' AS good FROM pop.{table}")
            self.assertEqual(rows, [{"good": "t"}], table)

    def test_what_was_written_before_the_migration_is_rolled_up_by_it(self):
        name = "rollups_upgraded"
        run_sql(self.cluster.url("postgres"), f"CREATE DATABASE {name}")
        url = self.cluster.url(name)
        run_sql(url, "CREATE SCHEMA pop; CREATE TABLE pop.schema_migrations (name text)")
        files = sorted((ROOT / "Migrations").glob("*.sql"))
        ours = next(index for index, file in enumerate(files) if file.name.endswith("_dashboards.sql"))
        for file in files[:ours]:
            run_sql(url, file.read_text())
        database = Database.__new__(Database)
        database.owner_url = url
        database.seed("--devices", "8", "--skip-rollups")
        run_sql(url, files[ours].read_text())
        self.assert_exact(database)
        while run_sql(url, "SELECT pop.refresh_rollups(30) AS left").split()[1] != "0":
            pass
        self.assert_exact(database)

    def test_a_dump_brings_everything_back(self):
        database = self.database()
        database.seed("--devices", "8")
        dump = self.cluster.directory / "pop.dump"
        restored = self.cluster.url("restored")
        run_sql(self.cluster.url("postgres"), "CREATE DATABASE restored TEMPLATE template0")
        subprocess.run([postgres_program("pg_dump"), "--format=custom", "--schema=pop", f"--file={dump}",
                        database.owner_url], check=True)
        subprocess.run([postgres_program("pg_restore"), "--exit-on-error", "--single-transaction",
                        f"--dbname={restored}", dump], check=True)
        # Counted once: data come before triggers.
        copy = Database.__new__(Database)
        copy.owner_url = restored
        self.assert_exact(copy)
        counts = "SELECT count(*), sum(conns) FROM pop.dashboard_conn_rates"
        self.assertEqual(query(self.cluster.url("restored", user="pop_dashboard"), counts), database.rows(counts))
        copy.run("INSERT INTO pop.node_load SELECT 'pop-1', now(), 1, 1, 1, 1, 0.5, 1")
        self.assert_exact(copy)


if __name__ == "__main__":
    unittest.main()
