-- Purpose: dashboards that answer at once: rollups of conns, sessions, node samples and device load, and views of
-- them, of drains and of the store itself.
-- Breaking: no

-- Rollups by 1, 5, 30, 60 and 120 minutes are kept by triggers, within the transaction that writes the
-- rows: exact at any moment, whatever is written late, twice or anew. A node writes rows of its own only, so no
-- two nodes wait for each other. A panel reads the coarsest step that its own interval is a multiple of.
--
-- The steps stand in each statement as VALUES: of a small table the planner would believe that it is large, and
-- compile the statement anew for each batch.
CREATE FUNCTION pop.rollup_bucket(at timestamptz, seconds integer) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(floor(extract(epoch FROM at)::double precision / seconds) * seconds)
$$;

-- Sums of bytes are numeric: nothing that a peer moves can overflow them and so stop the write.
CREATE TABLE pop.conn_rollups (
    step_seconds integer NOT NULL,
    bucket_at timestamptz NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    protocol text NOT NULL,
    end_reason text NOT NULL,
    conns bigint NOT NULL,
    bytes_sent numeric NOT NULL,
    bytes_received numeric NOT NULL,
    duration_seconds double precision NOT NULL,
    -- By how long they lasted; the rest lasted 600 s and more.
    under_1s bigint NOT NULL,
    under_10s bigint NOT NULL,
    under_60s bigint NOT NULL,
    under_600s bigint NOT NULL,
    PRIMARY KEY (step_seconds, bucket_at, node_id, protocol, end_reason)
) WITH (fillfactor = 70);

CREATE TABLE pop.session_rollups (
    step_seconds integer NOT NULL,
    bucket_at timestamptz NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    -- `started`, or the reason of an end.
    event text NOT NULL,
    sessions bigint NOT NULL,
    -- Of those that ended.
    duration_seconds double precision NOT NULL,
    PRIMARY KEY (step_seconds, bucket_at, node_id, event)
) WITH (fillfactor = 70);

CREATE TABLE pop.node_load_rollups (
    step_seconds integer NOT NULL,
    bucket_at timestamptz NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    samples bigint NOT NULL,
    devices_online double precision NOT NULL,
    devices_online_max bigint NOT NULL,
    conns_active double precision NOT NULL,
    conns_active_max bigint NOT NULL,
    cpu_utilization double precision NOT NULL,
    cpu_utilization_max double precision NOT NULL,
    memory_used_bytes double precision NOT NULL,
    -- Moved since the sample before the bucket's first one; a node counts from 0 again when it restarts.
    bytes_sent numeric NOT NULL,
    bytes_received numeric NOT NULL,
    PRIMARY KEY (step_seconds, bucket_at, node_id)
) WITH (fillfactor = 70);

CREATE FUNCTION pop.roll_up_conns() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- OFFSET 0: the length of a conn is worked out once and not in each place that asks for it.
    WITH minutes AS MATERIALIZED (
        SELECT c.minute_at, c.node_id, c.protocol, c.end_reason, count(*) AS conns,
            sum(c.bytes_sent) AS bytes_sent, sum(c.bytes_received) AS bytes_received,
            sum(c.seconds) AS seconds, count(*) FILTER (WHERE c.seconds < 1) AS under_1s,
            count(*) FILTER (WHERE c.seconds >= 1 AND c.seconds < 10) AS under_10s,
            count(*) FILTER (WHERE c.seconds >= 10 AND c.seconds < 60) AS under_60s,
            count(*) FILTER (WHERE c.seconds >= 60 AND c.seconds < 600) AS under_600s
        FROM (
            SELECT date_trunc('minute', n.ended_at) AS minute_at, n.node_id, n.protocol, n.end_reason,
                n.bytes_sent, n.bytes_received,
                greatest(0, extract(epoch FROM n.ended_at - n.opened_at)::double precision) AS seconds
            FROM new_conns n OFFSET 0
        ) c
        GROUP BY c.minute_at, c.node_id, c.protocol, c.end_reason
    )
    INSERT INTO pop.conn_rollups AS r (step_seconds, bucket_at, node_id, protocol, end_reason, conns,
        bytes_sent, bytes_received, duration_seconds, under_1s, under_10s, under_60s, under_600s)
    SELECT s.seconds, pop.rollup_bucket(m.minute_at, s.seconds) AS bucket_at, m.node_id, m.protocol,
        m.end_reason, sum(m.conns), sum(m.bytes_sent), sum(m.bytes_received), sum(m.seconds),
        sum(m.under_1s), sum(m.under_10s), sum(m.under_60s), sum(m.under_600s)
    FROM minutes m CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) AS s(seconds)
    GROUP BY s.seconds, bucket_at, m.node_id, m.protocol, m.end_reason
    ORDER BY s.seconds, bucket_at, m.node_id, m.protocol, m.end_reason
    ON CONFLICT (step_seconds, bucket_at, node_id, protocol, end_reason) DO UPDATE SET
        conns = r.conns + excluded.conns, bytes_sent = r.bytes_sent + excluded.bytes_sent,
        bytes_received = r.bytes_received + excluded.bytes_received,
        duration_seconds = r.duration_seconds + excluded.duration_seconds,
        under_1s = r.under_1s + excluded.under_1s, under_10s = r.under_10s + excluded.under_10s,
        under_60s = r.under_60s + excluded.under_60s, under_600s = r.under_600s + excluded.under_600s;
    RETURN NULL;
END $$;

CREATE TRIGGER roll_up_conns AFTER INSERT ON pop.conns
    REFERENCING NEW TABLE AS new_conns FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_conns();

CREATE FUNCTION pop.add_session_events(
    minutes timestamptz[], nodes text[], events text[], sessions bigint[], durations double precision[]
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO pop.session_rollups AS r (step_seconds, bucket_at, node_id, event, sessions, duration_seconds)
    SELECT s.seconds, pop.rollup_bucket(e.minute_at, s.seconds) AS bucket_at, e.node_id, e.event,
        sum(e.sessions), sum(e.seconds)
    FROM unnest(minutes, nodes, events, sessions, durations)
        AS e(minute_at, node_id, event, sessions, seconds)
    CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) AS s(seconds)
    GROUP BY s.seconds, bucket_at, e.node_id, e.event
    ORDER BY s.seconds, bucket_at, e.node_id, e.event
    ON CONFLICT (step_seconds, bucket_at, node_id, event) DO UPDATE SET
        sessions = r.sessions + excluded.sessions,
        duration_seconds = r.duration_seconds + excluded.duration_seconds
$$;

CREATE FUNCTION pop.roll_up_new_sessions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pop.add_session_events(array_agg(e.minute_at), array_agg(e.node_id), array_agg(e.event),
        array_agg(e.sessions), array_agg(e.seconds))
    FROM (
        SELECT date_trunc('minute', n.started_at) AS minute_at, n.node_id, 'started' AS event,
            count(*) AS sessions, 0::double precision AS seconds
        FROM new_sessions n GROUP BY 1, 2
        UNION ALL
        SELECT date_trunc('minute', n.ended_at), n.node_id, n.end_reason, count(*),
            sum(extract(epoch FROM n.ended_at - n.started_at)::double precision)
        FROM new_sessions n WHERE n.ended_at IS NOT NULL GROUP BY 1, 2, 3
    ) e
    HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER roll_up_new_sessions AFTER INSERT ON pop.device_sessions
    REFERENCING NEW TABLE AS new_sessions FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_new_sessions();

-- An end is counted when it is written, and taken back when the session is opened again. An update that ends
-- nothing, as of the byte counts, costs one pass over its rows.
CREATE FUNCTION pop.roll_up_ended_sessions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pop.add_session_events(array_agg(e.minute_at), array_agg(e.node_id), array_agg(e.end_reason),
        array_agg(e.sessions), array_agg(e.seconds))
    FROM (
        SELECT date_trunc('minute', c.ended_at) AS minute_at, c.node_id, c.end_reason,
            sum(c.sign)::bigint AS sessions,
            sum(c.sign * extract(epoch FROM c.ended_at - c.started_at)::double precision) AS seconds
        FROM (
            SELECT 1 AS sign, n.* FROM (
                SELECT session_id, node_id, started_at, ended_at, end_reason
                FROM new_sessions WHERE ended_at IS NOT NULL
                EXCEPT SELECT session_id, node_id, started_at, ended_at, end_reason
                FROM old_sessions WHERE ended_at IS NOT NULL
            ) n
            UNION ALL
            SELECT -1, o.* FROM (
                SELECT session_id, node_id, started_at, ended_at, end_reason
                FROM old_sessions WHERE ended_at IS NOT NULL
                EXCEPT SELECT session_id, node_id, started_at, ended_at, end_reason
                FROM new_sessions WHERE ended_at IS NOT NULL
            ) o
        ) c
        GROUP BY 1, 2, 3
    ) e
    HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER roll_up_ended_sessions AFTER UPDATE ON pop.device_sessions
    REFERENCING OLD TABLE AS old_sessions NEW TABLE AS new_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_ended_sessions();

-- A bucket is made anew from its samples, at most 360 a node: in whatever order they come, it is right. The
-- bucket of the sample that follows a new one changes, too, since what it moved is counted from there.
CREATE FUNCTION pop.roll_up_node_load() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    WITH changed AS (
        SELECT n.node_id, n.sampled_at FROM new_samples n
        UNION
        SELECT n.node_id, l.sampled_at FROM new_samples n CROSS JOIN LATERAL (
            SELECT l.sampled_at FROM pop.node_load l
            WHERE l.node_id = n.node_id AND l.sampled_at > n.sampled_at ORDER BY l.sampled_at LIMIT 1
        ) l
    ), touched AS (
        SELECT DISTINCT s.seconds, pop.rollup_bucket(c.sampled_at, s.seconds) AS bucket_at, c.node_id
        FROM changed c CROSS JOIN (VALUES (60), (300), (1800), (3600), (7200)) AS s(seconds)
    )
    INSERT INTO pop.node_load_rollups (step_seconds, bucket_at, node_id, samples, devices_online,
        devices_online_max, conns_active, conns_active_max, cpu_utilization, cpu_utilization_max,
        memory_used_bytes, bytes_sent, bytes_received)
    SELECT t.seconds, t.bucket_at, t.node_id, count(*), avg(m.devices_online), max(m.devices_online),
        avg(m.conns_active), max(m.conns_active), avg(m.cpu_utilization), max(m.cpu_utilization),
        avg(m.memory_used_bytes), sum(m.sent), sum(m.received)
    FROM touched t CROSS JOIN LATERAL (
        SELECT l.*, CASE WHEN l.bytes_sent >= lag(l.bytes_sent, 1, 0::bigint) OVER samples
                THEN l.bytes_sent - lag(l.bytes_sent, 1, 0::bigint) OVER samples ELSE l.bytes_sent
            END AS sent,
            CASE WHEN l.bytes_received >= lag(l.bytes_received, 1, 0::bigint) OVER samples
                THEN l.bytes_received - lag(l.bytes_received, 1, 0::bigint) OVER samples
                ELSE l.bytes_received
            END AS received
        FROM (
            (SELECT p.* FROM pop.node_load p WHERE p.node_id = t.node_id AND p.sampled_at < t.bucket_at
            ORDER BY p.sampled_at DESC LIMIT 1)
            UNION ALL
            SELECT p.* FROM pop.node_load p WHERE p.node_id = t.node_id AND p.sampled_at >= t.bucket_at
                AND p.sampled_at < t.bucket_at + t.seconds * interval '1 second'
        ) l
        WINDOW samples AS (ORDER BY l.sampled_at)
    ) m
    WHERE m.sampled_at >= t.bucket_at
    GROUP BY t.seconds, t.bucket_at, t.node_id
    ORDER BY t.seconds, t.bucket_at, t.node_id
    ON CONFLICT (step_seconds, bucket_at, node_id) DO UPDATE SET samples = excluded.samples,
        devices_online = excluded.devices_online, devices_online_max = excluded.devices_online_max,
        conns_active = excluded.conns_active, conns_active_max = excluded.conns_active_max,
        cpu_utilization = excluded.cpu_utilization, cpu_utilization_max = excluded.cpu_utilization_max,
        memory_used_bytes = excluded.memory_used_bytes, bytes_sent = excluded.bytes_sent,
        bytes_received = excluded.bytes_received;
    RETURN NULL;
END $$;

CREATE TRIGGER roll_up_node_load AFTER INSERT ON pop.node_load
    REFERENCING NEW TABLE AS new_samples FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_node_load();

-- Device load is too much to be counted twice while it is written: 10,000 devices report 29 million times a day. A
-- write only leaves a mark on the hours it touches, and `refresh_rollups` makes the rollup of an hour once it is
-- over and marked. Until then, and again when something comes late, the view reads the hour's reports themselves:
-- a rollup saves time, and its absence costs nothing else.
CREATE TABLE pop.device_load_hours (
    device_id text COLLATE "C" NOT NULL,
    hour_at timestamptz NOT NULL,
    session_id uuid NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    samples bigint NOT NULL,
    active_conns double precision NOT NULL,
    active_conns_max bigint NOT NULL,
    -- The device's counts since the session began, at their highest.
    bytes_sent bigint NOT NULL,
    bytes_received bigint NOT NULL,
    cpu_utilization double precision NOT NULL,
    cpu_utilization_max double precision NOT NULL,
    memory_used_bytes double precision NOT NULL,
    memory_total_bytes bigint NOT NULL,
    rtt_ms double precision,
    rtt_ms_max double precision,
    PRIMARY KEY (device_id, hour_at, session_id)
);

CREATE INDEX device_load_hours_by_hour ON pop.device_load_hours (hour_at);

-- Round trips of the devices of a node, or of all (`node_id` is empty), each device with its mean of the hour.
CREATE TABLE pop.rtt_hours (
    hour_at timestamptz NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    devices bigint NOT NULL,
    rtt_ms_p50 double precision NOT NULL,
    rtt_ms_p95 double precision NOT NULL,
    rtt_ms_p99 double precision NOT NULL,
    PRIMARY KEY (hour_at, node_id)
);

CREATE TABLE pop.load_hours_due (hour_at timestamptz NOT NULL);
CREATE INDEX load_hours_due_by_hour ON pop.load_hours_due (hour_at);

-- An hour's reports lie together, as they come in the order of time.
CREATE INDEX device_load_by_time ON pop.device_load USING brin (sampled_at)
    WITH (pages_per_range = 32, autosummarize = on);

-- The lock on a mark keeps `refresh_rollups` from taking it away before the reports are committed. A mark that is
-- being taken away is passed over and another one is left, so no writer ever waits.
CREATE FUNCTION pop.mark_load_hours() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    touched timestamptz;
BEGIN
    FOR touched IN SELECT DISTINCT date_trunc('hour', n.sampled_at, 'UTC') FROM new_loads n LOOP
        PERFORM FROM pop.load_hours_due d WHERE d.hour_at = touched LIMIT 1 FOR KEY SHARE SKIP LOCKED;
        IF NOT FOUND THEN
            INSERT INTO pop.load_hours_due VALUES (touched);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER mark_load_hours AFTER INSERT ON pop.device_load
    REFERENCING NEW TABLE AS new_loads FOR EACH STATEMENT EXECUTE FUNCTION pop.mark_load_hours();

-- Rolls up one hour that is over and marked, the newest first, drops rollups of days older than
-- `retention_days`, and tells how many hours still wait; null when another node is at it. Said again it changes
-- nothing.
CREATE FUNCTION pop.refresh_rollups(retention_days integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    hour timestamptz;
    oldest timestamptz := date_trunc('day', now(), 'UTC') - retention_days * interval '1 day';
    -- Reports of an hour come in for a while after its end.
    newest timestamptz := date_trunc('hour', now() - interval '5 minutes', 'UTC');
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('pop.refresh_rollups')) THEN
        RETURN NULL;
    END IF;
    DELETE FROM pop.load_hours_due WHERE hour_at < oldest;
    DELETE FROM pop.device_load_hours WHERE hour_at < oldest;
    DELETE FROM pop.rtt_hours WHERE hour_at < oldest;
    DELETE FROM pop.conn_rollups WHERE step_seconds IN (60, 300, 1800, 3600, 7200) AND bucket_at < oldest;
    DELETE FROM pop.session_rollups WHERE step_seconds IN (60, 300, 1800, 3600, 7200) AND bucket_at < oldest;
    DELETE FROM pop.node_load_rollups WHERE step_seconds IN (60, 300, 1800, 3600, 7200) AND bucket_at < oldest;

    SELECT max(d.hour_at) INTO hour FROM pop.load_hours_due d WHERE d.hour_at < newest;
    IF hour IS NULL THEN
        RETURN 0;
    END IF;
    -- Waits for those who are writing reports of this hour; the statements after it see what they wrote.
    DELETE FROM pop.load_hours_due WHERE hour_at = hour;
    DELETE FROM pop.device_load_hours WHERE hour_at = hour;
    INSERT INTO pop.device_load_hours (device_id, hour_at, session_id, node_id, samples, active_conns,
        active_conns_max, bytes_sent, bytes_received, cpu_utilization, cpu_utilization_max,
        memory_used_bytes, memory_total_bytes, rtt_ms, rtt_ms_max)
    SELECT l.device_id, hour, l.session_id, max(l.node_id), count(*), avg(l.active_conns),
        max(l.active_conns), max(l.bytes_sent), max(l.bytes_received), avg(l.cpu_utilization),
        max(l.cpu_utilization), avg(l.memory_used_bytes), max(l.memory_total_bytes), avg(l.rtt_ms),
        max(l.rtt_ms)
    FROM pop.device_load l WHERE l.sampled_at >= hour AND l.sampled_at < hour + interval '1 hour'
    GROUP BY l.device_id, l.session_id;
    DELETE FROM pop.rtt_hours WHERE hour_at = hour;
    INSERT INTO pop.rtt_hours (hour_at, node_id, devices, rtt_ms_p50, rtt_ms_p95, rtt_ms_p99)
    SELECT hour, coalesce(h.node_id, ''), count(DISTINCT h.device_id),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY h.rtt_ms),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY h.rtt_ms),
        percentile_cont(0.99) WITHIN GROUP (ORDER BY h.rtt_ms)
    FROM pop.device_load_hours h WHERE h.hour_at = hour AND h.rtt_ms IS NOT NULL
    GROUP BY GROUPING SETS ((h.node_id), ()) HAVING count(*) > 0;
    RETURN (SELECT count(DISTINCT d.hour_at) FROM pop.load_hours_due d WHERE d.hour_at < newest);
END $$;

-- What was written before there were rollups, through the same functions.
CREATE TABLE pop.earlier_conns (LIKE pop.conns);
CREATE TRIGGER roll_up_conns AFTER INSERT ON pop.earlier_conns
    REFERENCING NEW TABLE AS new_conns FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_conns();
INSERT INTO pop.earlier_conns SELECT * FROM pop.conns;
CREATE TABLE pop.earlier_sessions (LIKE pop.device_sessions);
CREATE TRIGGER roll_up_new_sessions AFTER INSERT ON pop.earlier_sessions
    REFERENCING NEW TABLE AS new_sessions FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_new_sessions();
INSERT INTO pop.earlier_sessions SELECT * FROM pop.device_sessions;
CREATE TABLE pop.earlier_node_load (LIKE pop.node_load);
CREATE TRIGGER roll_up_node_load AFTER INSERT ON pop.earlier_node_load
    REFERENCING NEW TABLE AS new_samples FOR EACH STATEMENT EXECUTE FUNCTION pop.roll_up_node_load();
INSERT INTO pop.earlier_node_load SELECT * FROM pop.node_load;
DROP TABLE pop.earlier_conns, pop.earlier_sessions, pop.earlier_node_load;

-- Of device load, all hours that there may be reports of; an hour without any costs nothing.
INSERT INTO pop.load_hours_due
SELECT h FROM generate_series((
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD'))::timestamp AT TIME ZONE 'UTC'
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'pop.device_load'::regclass AND c.relname ~ '_[0-9]{8}$'
), date_trunc('hour', now(), 'UTC'), interval '1 hour') h
WHERE EXISTS (SELECT FROM pop.device_load)
UNION
SELECT date_trunc('hour', sampled_at, 'UTC') FROM pop.device_load_default;

-- Nodes, devices and drains, with since when they are silent: a node that doesn't renew its lease says nothing
-- any more, and what it said last must not be shown as what is.
CREATE OR REPLACE VIEW pop.dashboard_nodes AS
SELECT node_id, pop.node_state(state, last_seen_at) AS state, location, advertise_host, wss_port, quic_port,
    version, started_at, last_seen_at, extract(epoch FROM now() - last_seen_at) AS age_seconds,
    devices_online, conns_active, bytes_sent, bytes_received, cpu_utilization, memory_used_bytes,
    CASE WHEN last_seen_at < now() - interval '10 seconds' THEN last_seen_at END AS silent_since,
    CASE
        WHEN last_seen_at >= now() - interval '10 seconds' THEN state
        WHEN state = 'down'
            THEN 'stopped at ' || to_char(last_seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
        ELSE 'silent since ' || to_char(last_seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
    END AS status,
    extract(epoch FROM now() - started_at) AS uptime_seconds
FROM pop.nodes;

CREATE OR REPLACE VIEW pop.dashboard_devices AS
SELECT d.device_id, d.status, d.enabled, d.node_id, d.session_id, d.location, d.tags, d.capacity,
    d.agent_version, d.remote_address, d.quic_remote_address, d.health, d.connected_at, d.last_heartbeat_at,
    d.rtt_ms, d.active_conns, d.bytes_sent, d.bytes_received, d.cpu_utilization, d.memory_used_bytes,
    d.memory_total_bytes, d.first_seen_at, d.last_seen_at,
    extract(epoch FROM now() - d.last_seen_at) AS age_seconds,
    coalesce(pop.node_state(n.state, n.last_seen_at) = 'down', true) AS is_stale,
    -- Since when nobody can tell how an online device is.
    CASE WHEN d.status = 'online' AND n.node_id IS NULL THEN d.last_seen_at
        WHEN d.status = 'online' AND n.last_seen_at < now() - interval '10 seconds' THEN n.last_seen_at
    END AS silent_since,
    CASE WHEN d.status = 'online' THEN extract(epoch FROM now() - d.connected_at) END AS session_seconds,
    d.load_sampled_at
FROM pop.devices d LEFT JOIN pop.nodes n USING (node_id);

CREATE OR REPLACE VIEW pop.dashboard_conns AS
SELECT conn_id, node_id, device_id, session_id, user_name, protocol, client_address, target, resolved_address,
    opened_at, ended_at, bytes_sent, bytes_received, end_reason,
    extract(epoch FROM ended_at - opened_at) AS duration_seconds
FROM pop.conns;

CREATE VIEW pop.dashboard_drains AS
SELECT d.drain_id, d.node_id, d.state, d.started_at, d.deadline_at, d.ended_at, d.ended_at IS NULL AS is_running,
    d.ended_at IS NULL AND d.deadline_at < now() AS is_overdue,
    CASE WHEN d.ended_at IS NULL THEN extract(epoch FROM d.deadline_at - now()) END AS remaining_seconds,
    extract(epoch FROM coalesce(d.ended_at, now()) - d.started_at) AS duration_seconds,
    d.deadline_seconds, d.devices_per_second, d.redirect_to, d.on_deadline, d.reason, d.actor,
    d.devices_total, d.devices_moved, d.devices_remaining, d.conns_remaining, d.conns_cut,
    -- How old a running drain's figures may be: the node that is drained writes them.
    CASE WHEN d.ended_at IS NULL THEN extract(epoch FROM now() - n.last_seen_at) END AS age_seconds,
    CASE WHEN d.ended_at IS NULL AND n.last_seen_at < now() - interval '10 seconds' THEN n.last_seen_at
    END AS silent_since
FROM pop.drains d LEFT JOIN pop.nodes n USING (node_id);

CREATE VIEW pop.dashboard_conn_rates AS
SELECT step_seconds, bucket_at, node_id, protocol, end_reason, conns, bytes_sent, bytes_received,
    duration_seconds, under_1s, under_10s, under_60s, under_600s,
    conns - under_1s - under_10s - under_60s - under_600s AS longer
FROM pop.conn_rollups;

CREATE VIEW pop.dashboard_session_rates AS
SELECT step_seconds, bucket_at, node_id, event, sessions, duration_seconds FROM pop.session_rollups;

CREATE VIEW pop.dashboard_node_rates AS
SELECT step_seconds, bucket_at, node_id, samples, devices_online, devices_online_max, conns_active,
    conns_active_max, cpu_utilization, cpu_utilization_max, memory_used_bytes, bytes_sent, bytes_received
FROM pop.node_load_rollups;

-- A device's load, report by report (`step_seconds` 0) or by the hour (3600).
CREATE VIEW pop.dashboard_device_load AS
SELECT 0 AS step_seconds, device_id, sampled_at AS at, session_id, node_id, 1::bigint AS samples,
    active_conns::double precision AS active_conns, active_conns AS active_conns_max, bytes_sent,
    bytes_received, cpu_utilization, cpu_utilization AS cpu_utilization_max,
    memory_used_bytes::double precision AS memory_used_bytes, memory_total_bytes, rtt_ms, rtt_ms AS rtt_ms_max
FROM pop.device_load
UNION ALL
SELECT 3600, h.device_id, h.hour_at, h.session_id, h.node_id, h.samples, h.active_conns, h.active_conns_max,
    h.bytes_sent, h.bytes_received, h.cpu_utilization, h.cpu_utilization_max, h.memory_used_bytes,
    h.memory_total_bytes, h.rtt_ms, h.rtt_ms_max
FROM pop.device_load_hours h
WHERE NOT EXISTS (SELECT FROM pop.load_hours_due d WHERE d.hour_at = h.hour_at)
UNION ALL
SELECT 3600, l.device_id, d.hour_at, l.session_id, max(l.node_id), count(*),
    avg(l.active_conns)::double precision, max(l.active_conns), max(l.bytes_sent), max(l.bytes_received),
    avg(l.cpu_utilization), max(l.cpu_utilization), avg(l.memory_used_bytes)::double precision,
    max(l.memory_total_bytes), avg(l.rtt_ms), max(l.rtt_ms)
FROM (SELECT DISTINCT hour_at FROM pop.load_hours_due) d
JOIN pop.device_load l ON l.sampled_at >= d.hour_at AND l.sampled_at < d.hour_at + interval '1 hour'
GROUP BY d.hour_at, l.device_id, l.session_id;

-- Hours that are over; of all nodes together where `node_id` is empty.
CREATE VIEW pop.dashboard_rtt AS
SELECT hour_at, node_id, devices, rtt_ms_p50, rtt_ms_p95, rtt_ms_p99 FROM pop.rtt_hours;

-- The store. How late each node's writes are: samples come every 10 s, and wait on the node while it can't write.
CREATE VIEW pop.dashboard_store_writers AS
SELECT n.node_id, pop.node_state(n.state, n.last_seen_at) AS state, n.last_seen_at,
    extract(epoch FROM now() - n.last_seen_at) AS age_seconds, l.sampled_at AS newest_sample_at,
    extract(epoch FROM now() - l.sampled_at) AS sample_age_seconds,
    CASE WHEN n.last_seen_at < now() - interval '10 seconds' THEN n.last_seen_at END AS silent_since
FROM pop.nodes n LEFT JOIN LATERAL (
    SELECT l.sampled_at FROM pop.node_load l WHERE l.node_id = n.node_id ORDER BY l.sampled_at DESC LIMIT 1
) l ON true;

CREATE VIEW pop.dashboard_store_tables AS
WITH parts AS (
    SELECT coalesce(p.relname, c.relname) AS table_name, c.oid, c.relname <> coalesce(p.relname, '') AND
        p.oid IS NOT NULL AS is_partition, greatest(c.reltuples, 0) AS row_estimate
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN pg_class p ON p.oid = i.inhparent
    WHERE c.relnamespace = 'pop'::regnamespace AND c.relkind = 'r'
)
SELECT p.table_name, count(*) FILTER (WHERE p.is_partition) AS partitions,
    sum(p.row_estimate)::bigint AS row_estimate, sum(pg_table_size(p.oid))::bigint AS table_bytes,
    sum(pg_indexes_size(p.oid))::bigint AS index_bytes, sum(s.n_dead_tup)::bigint AS dead_rows,
    max(greatest(s.last_vacuum, s.last_autovacuum)) AS last_vacuum_at,
    extract(epoch FROM now() - max(greatest(s.last_vacuum, s.last_autovacuum))) AS vacuum_age_seconds
FROM parts p LEFT JOIN pg_stat_all_tables s ON s.relid = p.oid
GROUP BY p.table_name;

-- Partitions are made ahead; rows without one are in the default partition, of which 1,000 at most are counted.
CREATE VIEW pop.dashboard_store_partitions AS
SELECT p.table_name, min(p.day) AS oldest_day, max(p.day) AS newest_day,
    max(p.day) - (now() AT TIME ZONE 'UTC')::date AS days_ahead,
    CASE p.table_name
        WHEN 'conns' THEN (SELECT count(*) FROM (SELECT FROM pop.conns_default LIMIT 1000) c)
        ELSE (SELECT count(*) FROM (SELECT FROM pop.device_load_default LIMIT 1000) l)
    END AS default_rows
FROM (
    SELECT p.relname AS table_name, to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE i.inhparent IN ('pop.device_load'::regclass, 'pop.conns'::regclass) AND c.relname ~ '_[0-9]{8}$'
) p
GROUP BY p.table_name;

CREATE VIEW pop.dashboard_store AS
SELECT pg_database_size(current_database()) AS database_bytes, s.numbackends AS connections,
    current_setting('max_connections')::integer AS max_connections, s.xact_commit AS commits,
    s.xact_rollback AS rollbacks, s.deadlocks, s.temp_bytes,
    CASE WHEN s.blks_hit + s.blks_read > 0 THEN s.blks_hit::double precision / (s.blks_hit + s.blks_read)
    END AS cache_hit_ratio,
    pg_is_in_recovery() AS is_in_recovery,
    (SELECT max(name) FROM pop.schema_migrations) AS newest_migration,
    (SELECT count(DISTINCT d.hour_at) FROM pop.load_hours_due d
        WHERE d.hour_at < date_trunc('hour', now() - interval '5 minutes', 'UTC')) AS rollup_hours_due,
    (SELECT extract(epoch FROM now() - min(d.hour_at)) FROM pop.load_hours_due d
        WHERE d.hour_at < date_trunc('hour', now() - interval '5 minutes', 'UTC')) AS rollup_age_seconds
FROM pg_stat_database s WHERE s.datname = current_database();

DO $$
DECLARE
    view_name text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pop_dashboard') THEN
        GRANT USAGE ON SCHEMA pop TO pop_dashboard;
        FOR view_name IN
            SELECT table_name FROM information_schema.views
            WHERE table_schema = 'pop' AND table_name LIKE 'dashboard\_%'
        LOOP
            EXECUTE format('GRANT SELECT ON pop.%I TO pop_dashboard', view_name);
        END LOOP;
        -- Compiling a panel's query takes longer than answering it. To set this is the right of those who made
        -- the role.
        BEGIN
            ALTER ROLE pop_dashboard SET jit = off;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
    END IF;
END $$;
