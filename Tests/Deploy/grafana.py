"""What Grafana makes of a panel's SQL, as far as our dashboards use it.

Macros and variables as its documentation of the PostgreSQL data source and of global variables has them; an unknown one
is an error, so that no panel can use what has not been tried.
"""

import dataclasses
import datetime
import json
import re

from cluster import ROOT

FOLDER = ROOT / "deploy" / "grafana"

# Grafana rounds the time between two points to one that people read: up to the first, the second.
_ROUNDED = [
    (1_500, 1_000), (3_500, 2_000), (7_500, 5_000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000),
    (45_000, 30_000), (90_000, 60_000), (210_000, 120_000), (450_000, 300_000), (750_000, 600_000),
    (1_050_000, 900_000), (1_500_000, 1_200_000), (2_700_000, 1_800_000), (5_400_000, 3_600_000),
    (9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000), (86_400_000, 43_200_000),
    (604_800_000, 86_400_000), (1_814_400_000, 604_800_000),
]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration_seconds(text):
    match = re.fullmatch(r"(\d+)(s|m|h|d)", text.strip().strip("'"))
    if not match:
        raise ValueError(f"not an interval: {text}")
    return int(match[1]) * _UNITS[match[2]]


def interval_milliseconds(start, end, points, minimum="1s"):
    exact = (end - start).total_seconds() * 1_000 / points
    rounded = next((value for limit, value in _ROUNDED if exact < limit), 2_592_000_000)
    return max(rounded, duration_seconds(minimum) * 1_000)


@dataclasses.dataclass
class Context:
    start: datetime.datetime
    end: datetime.datetime
    interval_ms: int
    # One value or, for a variable with several, a list.
    variables: dict

    def expand(self, sql):
        def quoted(value):
            return "'" + value.replace("'", "''") + "'"

        def stamp(time):
            return quoted(time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

        def formatted(match):
            name, form = match[1], match[2]
            value = self.variables[name]
            if form == "sqlstring":
                return ",".join(quoted(v) for v in (value if isinstance(value, list) else [value]))
            raise ValueError(f"unknown format of a variable: {match[0]}")

        def group(match):
            column, interval = match[2].split(",", 1)
            seconds = duration_seconds(interval)
            text = f"floor(extract(epoch from {column.strip()})/{seconds})*{seconds}"
            return text + (' AS "time"' if match[1] else "")

        sql = re.sub(r"\$\{(\w+):(\w+)\}", formatted, sql)
        sql = sql.replace("$__interval_ms", str(self.interval_ms))
        sql = sql.replace("$__interval", f"{self.interval_ms // 1_000}s")
        sql = re.sub(r"\$__timeGroup(Alias)?\(([^()]*)\)", group, sql)
        sql = re.sub(r"\$__timeFilter\(([^()]*)\)",
                     lambda m: f"{m[1]} BETWEEN {stamp(self.start)} AND {stamp(self.end)}", sql)
        sql = sql.replace("$__timeFrom()", stamp(self.start)).replace("$__timeTo()", stamp(self.end))
        if "$" in sql:
            raise ValueError(f"unknown macro or variable: {sql[sql.index('$'):][:40]}")
        return sql


def dashboards():
    return [json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))]


def panel_queries():
    """(dashboard, panel, target) of each query of each panel."""
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield dashboard, panel, target


def key(dashboard, panel, target):
    """`fleet/Nodes now`, and `/B` after it for a second query."""
    name = dashboard["uid"].removeprefix("pop-") + "/" + panel["title"]
    return name if target["refId"] == "A" else name + "/" + target["refId"]
