"""What each panel must answer, worked out from the tables' rows without the views and the rollups.

A row is a list in the order of the panel's columns. `Near` is for what goes on while a test runs.
"""

import dataclasses
import statistics
from collections import Counter

from fleet import time

SILENT_NODE = "pop-3"
NODES = ["pop-1", "pop-2", "pop-3"]
PROTOCOLS = ["socks5", "http", "udp"]


@dataclasses.dataclass
class Near:
    value: float
    tolerance: float


ANYTHING = object()


def text_of(prefix, at):
    return f"{prefix} {time(at):%Y-%m-%d %H:%M:%S} UTC"


def mean(values):
    return sum(values) / len(values)


def total(rows, *names):
    return sum(row[name] for row in rows for name in names)


def percentile(values, share):
    values = sorted(values)
    place = (len(values) - 1) * share
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def lasted(row):
    return (row.ended_at - row.started_at) / 1e6


def conn_seconds(row):
    return (row.ended_at - row.opened_at) / 1e6


class Answers:
    def __init__(self, fleet, series, node="pop-2", device="dev-000007", now=0):
        self.fleet, self.series, self.node, self.device, self.now = fleet, series, node, device, now
        self.panels = {}
        self.silent_at = next(n.last_seen_at for n in fleet.nodes if n.node_id == SILENT_NODE)
        self.serving = [n for n in fleet.nodes if n.node_id != SILENT_NODE]
        self.online = [d for d in fleet.devices if d.status == "online" and d.node_id != SILENT_NODE]

    def of(self, key):
        dashboard, panel = key.split("/", 1)
        if dashboard not in self.panels:
            self.panels[dashboard] = getattr(self, dashboard + "_panels")()
        return self.panels[dashboard][panel]()

    # What several dashboards show.

    def status(self, node):
        return text_of("silent since", node.last_seen_at) if node.node_id == SILENT_NODE else node.state

    def live(self, node, column):
        return None if node.node_id == SILENT_NODE else node[column]

    def by_node(self, rows, value, at="sampled_at"):
        groups = self.series.group(rows, at, lambda r: r.node_id)
        return [[t, name, value(group)] for (t, name), group in groups.items()]

    def all_nodes(self, rows, *values, at="sampled_at"):
        return [[t, *(value(group) for value in values)] for (t, _), group in self.series.group(rows, at).items()]

    def by(self, rows, at, name, value):
        return [[t, n, value(group)] for (t, n), group in self.series.group(rows, at, name).items()]

    def bits(self, *names):
        return lambda group: total(group, *names) * 8 / self.series.interval

    def a_minute(self, group):
        return len(group) * 60 / self.series.interval

    def events(self, sessions):
        return ([{"at": s.started_at, "event": "started", "session": s} for s in sessions]
                + [{"at": s.ended_at, "event": s.end_reason, "session": s} for s in sessions if s.ended_at])

    def ends_by_reason(self, sessions):
        ended = [s for s in sessions if s.ended_at]
        return self.by(ended, "ended_at", lambda s: s.end_reason, len)

    def of_node(self, rows):
        return [row for row in rows if row.node_id == self.node]

    def of_device(self, rows):
        return [row for row in rows if row.device_id == self.device]

    def counted(self, rows, name):
        return [[n, c] for n, c in sorted(Counter(name(r) for r in rows).items(), key=lambda i: (-i[1], i[0]))]

    # The dashboards, panel by panel.

    def fleet_panels(self):
        f = self.fleet
        rtt = [d.rtt_ms for d in self.online]
        return {
            "Nodes": lambda: [[2, 1]],
            "Devices": lambda: [[len(self.online), sum(d.status == "online" for d in f.devices) - len(self.online),
                                 sum(d.status == "offline" for d in f.devices)]],
            "Conns": lambda: [[total(self.serving, "conns_active")]],
            "Round trip of online devices": lambda: [[statistics.median(rtt), percentile(rtt, 0.95)]],
            "Nodes now": lambda: [[
                n.node_id, self.status(n), n.location, "0.1.0", self.live(n, "devices_online"),
                self.live(n, "conns_active"), self.live(n, "cpu_utilization"), self.live(n, "memory_used_bytes"),
                Near((self.now - n.started_at) / 1e6, 600),
                Near((self.now - n.last_seen_at) / 1e6 if n.node_id == SILENT_NODE else 0, 60),
            ] for n in sorted(f.nodes, key=lambda n: n.node_id)],
            "Devices online": lambda: self.by_node(f.samples, lambda g: mean([s.devices_online for s in g])),
            "Conns active": lambda: self.by_node(f.samples, lambda g: mean([s.conns_active for s in g])),
            "Throughput": lambda: self.all_nodes(f.samples, self.bits("moved_sent"), self.bits("moved_received")),
            "Sessions started and ended": lambda: self.by(
                self.events(f.sessions), "at", lambda e: "started" if e["event"] == "started" else "ended", len),
            "Online devices by location": lambda: self.counted(self.online, lambda d: d.location),
            "Online devices by version": lambda: self.counted(self.online, lambda d: d.agent_version),
            "Online devices by health": lambda: self.counted(self.online, lambda d: d.health),
        }

    def node_panels(self):
        f = self.fleet
        node = next(n for n in f.nodes if n.node_id == self.node)
        is_silent = self.node == SILENT_NODE
        samples, conns = self.of_node(f.samples), self.of_node(f.conns)

        def figure(value):
            return lambda: [[self.status(node) if is_silent else value]]

        busiest = sorted((d for d in self.of_node(f.devices) if d.status == "online"),
                         key=lambda d: (-d.active_conns, d.device_id))[:20]
        drains = sorted(self.of_node(f.drains), key=lambda d: -d.started_at)[:20]
        return {
            "State": lambda: [[self.status(node)]],
            "Devices online now": figure(str(node.devices_online)),
            "Conns now": figure(str(node.conns_active)),
            "Processor now": figure(f"{round(node.cpu_utilization * 100)} %"),
            "Last word": lambda: [[Near((self.now - node.last_seen_at) / 1e6 if is_silent else 0, 60)]],
            "Up since": lambda: [] if is_silent else [[Near((self.now - node.started_at) / 1e6, 600)]],
            "Devices and conns": lambda: self.all_nodes(
                samples, lambda g: mean([s.devices_online for s in g]), lambda g: mean([s.conns_active for s in g]),
                lambda g: max(s.conns_active for s in g)),
            "Throughput of the node": lambda: self.all_nodes(
                samples, self.bits("moved_sent"), self.bits("moved_received")),
            "Processor": lambda: self.all_nodes(
                samples, lambda g: mean([s.cpu_utilization for s in g]), lambda g: max(s.cpu_utilization for s in g)),
            "Memory of the machine": lambda: self.all_nodes(
                samples, lambda g: mean([s.memory_used_bytes for s in g])),
            "Ended sessions of the node by reason": lambda: self.ends_by_reason(self.of_node(f.sessions)),
            "Ended conns of the node by reason": lambda: self.by(conns, "ended_at", lambda c: c.end_reason, len),
            "Busiest devices": lambda: [[
                d.device_id, d.health, d.active_conns, d.rtt_ms, d.cpu_utilization, d.bytes_sent, d.bytes_received,
                ANYTHING] for d in busiest],
            "Drains of the node": lambda: [[
                time(d.started_at), d.state, d.reason, d.actor, self.drain_seconds(d), d.devices_moved, d.conns_cut,
            ] for d in drains],
        }

    def drain_seconds(self, drain):
        if drain.ended_at is None:
            return Near((self.now - drain.started_at) / 1e6, 600)
        return (drain.ended_at - drain.started_at) / 1e6

    def device_panels(self):
        f = self.fleet
        device = next(d for d in f.devices if d.device_id == self.device)
        is_silent = device.node_id == SILENT_NODE and device.status == "online"
        silent = text_of("silent since", self.silent_at)
        loads = sorted(self.of_device(f.loads), key=lambda l: l.sampled_at)
        is_hourly = self.series.interval >= 600
        step = 3_600 if is_hourly else 0

        def per_time(*values, rows=loads):
            return [[t, *(value(group) for value in values)]
                    for (t, _), group in self.series.group(rows, "sampled_at", step=step).items()]

        # Counts of a session at its reports, or at the end of each hour; what is moved is known from the second on.
        points = loads
        if is_hourly:
            last = {}
            for load in loads:
                last[load.session_id, load.sampled_at // 3_600_000_000] = load
            points = [load | {"sampled_at": hour * 3_600_000_000} for (_, hour), load in last.items()]
            points = [type(loads[0])(p) for p in points]
        within = self.series.within(points, "sampled_at", step=0)
        moved, before = {}, {}
        for point in within:
            sums = moved.setdefault(point.sampled_at // 1_000_000 // self.series.interval * self.series.interval,
                                    [None, None])
            if point.session_id in before:
                for index, name in enumerate(["bytes_sent", "bytes_received"]):
                    sums[index] = (sums[index] or 0) + point[name] - before[point.session_id][name]
            before[point.session_id] = point

        sessions = [s for s in self.of_device(f.sessions) if s.started_at <= self.series.end
                    and (s.ended_at is None or s.ended_at >= self.series.start)]
        conns = [c for c in self.of_device(f.conns) if self.series.start <= c.ended_at <= self.series.end]
        return {
            "State": lambda: [[silent if is_silent else device.status]],
            "Where": lambda: [[device.node_id]],
            "Health": lambda: [[silent if is_silent else device.health or device.status]],
            "Conns now": lambda: [[silent if is_silent else str(device.active_conns)]],
            "Round trip now": lambda: [] if is_silent or device.status == "offline" else [[device.rtt_ms]],
            "Last word": lambda: [[ANYTHING]],
            "Conns": lambda: per_time(lambda g: mean([l.active_conns for l in g]),
                                      lambda g: max(l.active_conns for l in g)),
            "Throughput of the device": lambda: [
                [t, *(None if s is None else s * 8 / self.series.interval for s in sums)]
                for t, sums in sorted(moved.items())],
            "Round trip": lambda: per_time(lambda g: mean([l.rtt_ms for l in g]), lambda g: max(l.rtt_ms for l in g)),
            "Processor and memory": lambda: per_time(
                lambda g: mean([l.cpu_utilization for l in g]),
                lambda g: total(g, "memory_used_bytes") / total(g, "memory_total_bytes")),
            "Sessions": lambda: [[
                time(s.started_at), time(s.ended_at), s.end_reason or "open", s.node_id,
                lasted(s) if s.ended_at else Near((self.now - s.started_at) / 1e6, 600), s.remote_address,
                s.agent_version, s.conns_total, s.bytes_sent, s.bytes_received, s.resumes, s.migrations,
            ] for s in sorted(sessions, key=lambda s: -s.started_at)[:100]],
            "Ended conns": lambda: [[
                time(c.ended_at), c.end_reason, c.protocol, c.user_name, c.target, conn_seconds(c), c.bytes_sent,
                c.bytes_received] for c in sorted(conns, key=lambda c: -c.ended_at)[:100]],
        }

    def traffic_panels(self):
        f = self.fleet

        def rate(device):
            bytes_moved = device.bytes_sent + device.bytes_received
            return Near(bytes_moved * 8e6 / (self.now - device.connected_at), bytes_moved / 100)

        most = sorted(self.online, key=lambda d: (-d.bytes_sent - d.bytes_received, d.device_id))[:20]
        within = self.series.within(f.samples, "sampled_at")
        moved = [(name, [s for s in within if s.node_id == name]) for name in NODES]
        return {
            "Throughput by node": lambda: self.by_node(f.samples, self.bits("moved_sent", "moved_received")),
            "Ended conns by protocol": lambda: self.by(f.conns, "ended_at", lambda c: c.protocol, self.a_minute),
            "Bytes of ended conns by protocol": lambda: self.by(
                f.conns, "ended_at", lambda c: c.protocol, lambda g: total(g, "bytes_sent", "bytes_received")),
            "Moved in this time": lambda: sorted((
                [name, total(g, "moved_sent"), total(g, "moved_received"), total(g, "moved_sent", "moved_received")]
                for name, g in moved), key=lambda row: (-row[3], row[0])),
            "Bytes of a mean conn": lambda: self.all_nodes(
                f.conns, lambda g: total(g, "bytes_sent") / len(g), lambda g: total(g, "bytes_received") / len(g),
                at="ended_at"),
            "Devices that moved most in their session": lambda: [[
                d.device_id, d.node_id, d.active_conns, d.bytes_sent + d.bytes_received, rate(d), ANYTHING,
            ] for d in most],
        }

    def conns_panels(self):
        f = self.fleet

        def between(low, high):
            return lambda g: sum(low <= conn_seconds(c) < high for c in g)

        within = self.series.within(f.conns, "ended_at")
        failed = [c for c in f.conns if self.series.start <= c.ended_at <= self.series.end
                  and c.end_reason != "finished"]
        ended = self.series.within([s for s in f.sessions if s.ended_at], "ended_at")
        return {
            "Ended conns by reason": lambda: self.by(f.conns, "ended_at", lambda c: c.end_reason, self.a_minute),
            "Reasons in this time": lambda: self.counted(within, lambda c: c.end_reason),
            "Share that did not finish": lambda: self.all_nodes(f.conns, lambda g: (
                sum(c.end_reason != "finished" for c in g) / len(g)
                if any(c.end_reason != "finished" for c in g) else None), at="ended_at"),
            "Conns by how long they lasted": lambda: self.all_nodes(
                f.conns, between(0, 1), between(1, 10), between(10, 60), between(60, 600), between(600, 1e9),
                at="ended_at"),
            "Last conns that did not finish": lambda: [[
                time(c.ended_at), c.end_reason, c.node_id, c.device_id, c.protocol, c.user_name, c.target,
                conn_seconds(c), c.bytes_sent, c.bytes_received,
            ] for c in sorted(failed, key=lambda c: -c.ended_at)[:50]],
            "Ended sessions by reason": lambda: self.ends_by_reason(f.sessions),
            "Sessions ended in this time": lambda: [
                [reason, count, mean([lasted(s) for s in ended if s.end_reason == reason])]
                for reason, count in self.counted(ended, lambda s: s.end_reason)],
            "Round trip of devices": self.round_trips,
        }

    def round_trips(self):
        """Of each hour that is over the percentiles of the devices' means, and of several hours their mean."""
        hours = {}
        for load in self.fleet.loads:
            hours.setdefault(load.sampled_at // 3_600_000_000, {}).setdefault(
                (load.device_id, load.session_id), []).append(load.rtt_ms)
        # An hour is waited for 5 minutes longer.
        last = (self.now - 300_000_000) // 3_600_000_000
        trips = {}
        for hour, devices in sorted(hours.items()):
            if hour < last and self.series.start <= hour * 3_600_000_000 <= self.series.end:
                means = [mean(values) for values in devices.values()]
                trips.setdefault(hour * 3_600 // self.series.interval * self.series.interval, []).append(
                    [percentile(means, share) for share in (0.5, 0.95, 0.99)])
        return [[t, *(mean(values) for values in zip(*rows))] for t, rows in trips.items()]

    def drains_panels(self):
        f = self.fleet
        running = [d for d in f.drains if d.ended_at is None]
        within = [d for d in f.drains if self.series.start <= d.started_at <= self.series.end]
        over = sorted((d for d in within if d.ended_at), key=lambda d: (-d.started_at, d.node_id))

        def state(drain):
            return text_of("silent since", self.silent_at) if drain.node_id == SILENT_NODE else drain.state

        return {
            "Drains now": lambda: [[2, 1]],
            "Conns cut in this time": lambda: [[total(within, "conns_cut")]],
            "Nodes that take no devices": lambda: [
                [n.node_id, self.status(n), ANYTHING] for n in sorted(f.nodes, key=lambda n: n.node_id)
                if self.status(n) != "active"],
            "Running": lambda: [[
                d.node_id, state(d), time(d.started_at), time(d.deadline_at),
                Near((d.deadline_at - self.now) / 1e6, 600), d.devices_total, d.devices_moved, d.devices_remaining,
                d.conns_remaining, d.conns_cut, d.on_deadline, d.reason, d.actor, ANYTHING,
            ] for d in sorted(running, key=lambda d: (-d.started_at, d.node_id))],
            "History": lambda: [[
                time(d.started_at), d.node_id, d.state, self.drain_seconds(d), d.devices_total, d.devices_moved,
                d.conns_cut, d.on_deadline, d.reason, d.actor] for d in over],
            "Drains by outcome": lambda: self.by_exact(within, lambda d: d.state, len),
            "Devices that drains moved": lambda: [
                [t, total(g, "devices_moved"), total(g, "devices_remaining")]
                for (t, _), g in self.series.group(over, "started_at", step=0).items()],
        }

    def by_exact(self, rows, name, value):
        groups = self.series.group(rows, "started_at", name, step=0)
        return [[t, n, value(group)] for (t, n), group in groups.items()]

    def store_panels(self):
        f = self.fleet
        newest = {name: max(s.sampled_at for s in f.samples if s.node_id == name) for name in NODES}
        return {
            "Schema": lambda: [[ANYTHING]],
            "Database": lambda: [[Near(1e9, 1e9 - 1e6)]],
            "Connections": lambda: [[ANYTHING, 50]],
            # It may turn midnight, or the hour, while a test runs.
            "Days of partitions ahead": lambda: [[Near(2.5, 0.5)]],
            "Rows without a partition": lambda: [[0]],
            "Hours not rolled up": lambda: [[Near(0.5, 0.5)]],
            "How late nodes write": lambda: [[
                name, text_of("silent since", self.silent_at) if name == SILENT_NODE
                else "draining" if name == "pop-2" else "active", ANYTHING,
                None if name == SILENT_NODE else Near((self.now - newest[name]) / 1e6, 600), time(newest[name]),
            ] for name in NODES],
            "Samples written a minute": lambda: self.by_node(f.samples, self.a_minute),
            "Conns and sessions written a minute": lambda: self.all_nodes(f.conns, self.a_minute, at="ended_at"),
            "Conns and sessions written a minute/B": lambda: self.all_nodes(
                self.events(f.sessions), self.a_minute, at="at"),
            "Tables": lambda: ANYTHING,
            "Partitions": lambda: [[name, ANYTHING, ANYTHING, Near(2.5, 0.5), 0] for name in ("conns", "device_load")],
            "Server": lambda: [[ANYTHING, ANYTHING, 0, ANYTHING, ANYTHING, "f", ANYTHING]],
        }
