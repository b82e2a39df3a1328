"""The seeded fleet in one database, and its rows as Python sees them: what panels and alerts must answer."""

import collections
import datetime
import functools
import math
import os
import subprocess
import time as clock

from cluster import ROOT, SQLError, query, run_sql

UTC = datetime.timezone.utc
STEPS = (7_200, 3_600, 1_800, 300, 60)


def time(microseconds):
    return None if microseconds is None else datetime.datetime.fromtimestamp(0, UTC) + datetime.timedelta(
        microseconds=int(microseconds))


@functools.cache
def programs_folder():
    return os.environ.get("POP_PROGRAMS") or subprocess.run(
        ["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def program(name):
    """A program of ours as it was built last for debugging."""
    return os.path.join(programs_folder(), name)


class Database:
    """A migrated database; as its owner and as a dashboard."""

    def __init__(self, cluster, name):
        self.renewed_at = -math.inf
        self.owner_url = cluster.url(name)
        self.dashboard_url = cluster.url(name, user="pop_dashboard")
        run_sql(cluster.url("postgres"), f"CREATE DATABASE {name} TEMPLATE template0")
        subprocess.run([program("pop-node"), "migrate", "--database-url", self.owner_url, "up"], check=True,
                       stdout=subprocess.DEVNULL)
        run_sql(self.owner_url, "ALTER ROLE pop_dashboard LOGIN")

    def seed(self, *arguments):
        result = subprocess.run(
            [ROOT / "scripts" / "seed-database", "--database-url", self.owner_url, *arguments],
            capture_output=True, text=True)
        if result.returncode != 0:
            raise SQLError(result.stderr)

    def run(self, sql):
        return run_sql(self.owner_url, sql)

    def rows(self, sql):
        return query(self.owner_url, sql)

    def ask(self, sql, silent="pop-3"):
        """As a dashboard, while all nodes but one renew their leases."""
        if clock.monotonic() - self.renewed_at > 3:
            self.run(f"UPDATE pop.nodes SET last_seen_at = now() WHERE node_id <> '{silent}'")
            self.renewed_at = clock.monotonic()
        return query(self.dashboard_url, sql)


class Row(dict):
    __getattr__ = dict.__getitem__


class Fleet:
    """The rows of the tables, not of the views: numbers as numbers, times as microseconds since 1970."""

    def __init__(self, database):
        def table(name, times, numbers):
            columns = [f"(extract(epoch FROM {t}) * 1000000)::bigint AS {t}" for t in times]
            others = [c["attname"] for c in database.rows(
                f"SELECT attname FROM pg_attribute WHERE attrelid = 'pop.{name}'::regclass AND attnum > 0 "
                "AND NOT attisdropped") if c["attname"] not in times]
            rows = database.rows(f"SELECT {', '.join(columns + others)} FROM pop.{name}")
            for row in rows:
                for column in times + numbers:
                    if row[column] is not None:
                        row[column] = float(row[column]) if "." in row[column] else int(row[column])
            return [Row(row) for row in rows]

        counts = ["bytes_sent", "bytes_received"]
        self.nodes = table("nodes", ["started_at", "last_seen_at"],
                           counts + ["devices_online", "conns_active", "cpu_utilization", "memory_used_bytes"])
        self.devices = table("devices", ["connected_at"],
                             counts + ["rtt_ms", "active_conns", "cpu_utilization"])
        self.sessions = table("device_sessions", ["started_at", "ended_at"],
                              counts + ["conns_total", "resumes", "migrations"])
        self.conns = table("conns", ["opened_at", "ended_at"], counts)
        self.loads = table("device_load", ["sampled_at"], counts + [
            "active_conns", "cpu_utilization", "memory_used_bytes", "memory_total_bytes", "rtt_ms"])
        self.samples = table("node_load", ["sampled_at"], counts + [
            "devices_online", "conns_active", "cpu_utilization", "memory_used_bytes"])
        self.drains = table("drains", ["started_at", "deadline_at", "ended_at"], [
            "devices_total", "devices_moved", "devices_remaining", "conns_remaining", "conns_cut"])
        previous = {}
        for sample in sorted(self.samples, key=lambda s: (s.node_id, s.sampled_at)):
            before = previous.get(sample.node_id)
            for name in counts:
                start = before[name] if before and before[name] <= sample[name] else 0
                sample["moved_" + name.removeprefix("bytes_")] = sample[name] - start
            previous[sample.node_id] = sample


class Series:
    """Groups rows as a panel does: by the step of the rollup that it reads, then by its own interval."""

    def __init__(self, context):
        self.start = round(context.start.timestamp() * 1_000_000)
        self.end = round(context.end.timestamp() * 1_000_000)
        self.interval = context.interval_ms // 1_000
        self.step = next(step for step in STEPS if self.interval % step == 0)

    def group(self, rows, at, name=lambda row: None, step=None):
        """{(time, name): rows} of those whose bucket is in the time range, in order."""
        size = (self.step if step is None else step) * 1_000_000 or 1
        result = collections.defaultdict(list)
        for row in rows:
            if row[at] is None:
                continue
            bucket = row[at] // size * size
            if self.start <= bucket <= self.end:
                result[bucket // 1_000_000 // self.interval * self.interval, name(row)].append(row)
        return dict(sorted(result.items()))

    def within(self, rows, at, step=None):
        return [row for group in self.group(rows, at, step=step).values() for row in group]
