-- Purpose: load reports and ended conns, partitioned by day, and the upkeep of the partitions.
-- Breaking: no

CREATE TABLE pop.device_load (
    device_id text COLLATE "C" NOT NULL,
    session_id uuid NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    sampled_at timestamptz NOT NULL,
    active_conns bigint NOT NULL,
    bytes_sent bigint NOT NULL,
    bytes_received bigint NOT NULL,
    cpu_utilization double precision NOT NULL,
    memory_used_bytes bigint NOT NULL,
    memory_total_bytes bigint NOT NULL,
    rtt_ms double precision,
    -- Also the index of a device's time series; a report written twice meets itself here.
    PRIMARY KEY (device_id, sampled_at, session_id)
) PARTITION BY RANGE (sampled_at);

CREATE TABLE pop.conns (
    conn_id uuid NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    session_id uuid NOT NULL,
    user_name text NOT NULL DEFAULT '',
    protocol text NOT NULL CHECK (protocol IN ('socks5', 'http', 'udp')),
    client_address text NOT NULL,
    target text NOT NULL,
    resolved_address text,
    opened_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    bytes_sent bigint NOT NULL,
    bytes_received bigint NOT NULL,
    end_reason text NOT NULL,
    PRIMARY KEY (conn_id, ended_at)
) PARTITION BY RANGE (ended_at);

CREATE INDEX conns_by_device ON pop.conns (device_id, ended_at DESC);
CREATE INDEX conns_by_user ON pop.conns (user_name, ended_at DESC);
CREATE INDEX conns_by_end ON pop.conns (ended_at DESC);

-- Rows whose day has no partition (a node that was cut off for days, a clock that is wrong) land here
-- instead of being refused.
CREATE TABLE pop.device_load_default PARTITION OF pop.device_load DEFAULT;
CREATE TABLE pop.conns_default PARTITION OF pop.conns DEFAULT;

-- Makes the partitions of the days from yesterday to `days_ahead` from now. Every node calls it; one works
-- and the others wait for it.
CREATE FUNCTION pop.make_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    day date;
    partition text;
    made integer := 0;
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('pop.make_partitions'));
    FOREACH parent IN ARRAY ARRAY['device_load', 'conns'] LOOP
        FOR offset_days IN -1..days_ahead LOOP
            day := today + offset_days;
            partition := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('pop.' || partition) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE pop.%I PARTITION OF pop.%I FOR VALUES FROM (%L) TO (%L)',
                    partition, parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                -- The default partition holds rows of that day already: they stay there, and so does the day.
                RAISE NOTICE 'pop.% stays in the default partition', partition;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions, and deletes the samples, of days older than `retention_days`.
CREATE FUNCTION pop.drop_expired(retention_days integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    dropped integer := 0;
    oldest date := (now() AT TIME ZONE 'UTC')::date - retention_days;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('pop.make_partitions'));
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('pop.device_load'::regclass, 'pop.conns'::regclass)
            AND c.relname ~ '_[0-9]{8}$' AND to_date(right(c.relname, 8), 'YYYYMMDD') < oldest
    LOOP
        EXECUTE format('DROP TABLE pop.%I', partition);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM pop.device_load_default WHERE sampled_at < oldest;
    DELETE FROM pop.conns_default WHERE ended_at < oldest;
    DELETE FROM pop.node_load WHERE sampled_at < oldest;
    RETURN dropped;
END $$;

SELECT pop.make_partitions(3);
