-- Purpose: nodes that are declared lost and come back, sessions in the order of the database's clock, and word to
-- the node whose session was taken over elsewhere (docs/adr/0020).
-- Breaking: no

ALTER TABLE pop.nodes
    -- Counts up whenever others close sessions of this node because its lease was over: how it finds that out.
    ADD COLUMN lease_term bigint NOT NULL DEFAULT 0,
    -- Since when it is lost; null again once what still lives there is open again. Until then it is `down`.
    ADD COLUMN lost_at timestamptz;

ALTER TABLE pop.devices
    -- When the current session began by this database's clock: of two sessions of a device, the later one counts.
    ADD COLUMN session_began_at timestamptz NOT NULL DEFAULT '-infinity';

-- Sessions whose device has come to another node since: their node ends them and deletes the rows.
CREATE TABLE pop.session_takeovers (
    node_id text COLLATE "C" NOT NULL REFERENCES pop.nodes ON DELETE CASCADE,
    session_id uuid NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (node_id, session_id)
);

CREATE FUNCTION pop.device_taken_over() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pop.session_takeovers (node_id, session_id, device_id)
    SELECT n.node_id, OLD.session_id, OLD.device_id FROM pop.nodes n WHERE n.node_id = OLD.node_id
    ON CONFLICT DO NOTHING;
    PERFORM pg_notify('pop_takeovers', OLD.node_id);
    RETURN NULL;
END $$;

CREATE TRIGGER device_taken_over AFTER UPDATE OF session_id ON pop.devices
    FOR EACH ROW WHEN (OLD.status = 'online' AND OLD.session_id <> NEW.session_id AND OLD.node_id <> NEW.node_id)
    EXECUTE FUNCTION pop.device_taken_over();

-- A session as its node tells of it.
CREATE TYPE pop.session_entry AS (
    session_id uuid,
    device_id text,
    session_epoch bigint,
    -- By this database's clock, as its node reckons; null where the node can't tell.
    began_at timestamptz,
    -- By its node's clock.
    started_at timestamptz,
    remote_ip inet,
    -- `ip:port`.
    remote_address text,
    agent_version text,
    location text,
    tags text[],
    capacity bigint,
    -- Whether it asks for its device's row: not one that has been told to leave, and the newest of its node only.
    takes_device boolean
);

-- Gives devices to the sessions that may have them, each device asked for once; says who has it then.
--
--   - A session in `fresh` begins at this moment, so it is the newest there is.
--   - Any other has the device if it began after the session that has it, or if that one is over.
--   - One that can't say when it began does not come between others: if the device is offline and its epoch is
--     above all that are known, the row shows it as the device's last session.
--
-- A device's epoch grows with each session that gets it, whatever the clocks of nodes say.
CREATE FUNCTION pop.take_devices(of_node text, entries pop.session_entry[], fresh uuid[])
RETURNS TABLE (session_id uuid, device_id text, session_epoch bigint, first_seen_at timestamptz, is_owner boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO pop.devices (device_id, first_seen_at, last_seen_at)
    SELECT e.device_id, e.started_at, e.started_at FROM unnest(entries) e ORDER BY e.device_id
    ON CONFLICT DO NOTHING;
    -- In one order, whoever comes: two nodes that take the same devices don't wait for each other crosswise.
    PERFORM FROM pop.devices d
    WHERE d.device_id = ANY (ARRAY(SELECT e.device_id FROM unnest(entries) e))
    ORDER BY d.device_id FOR UPDATE;
    UPDATE pop.devices d SET status = CASE WHEN e.began_at IS NULL THEN 'offline' ELSE 'online' END,
        health = CASE WHEN e.began_at IS NULL THEN NULL ELSE 'control_only' END,
        node_id = of_node, session_id = e.session_id,
        session_epoch = greatest(e.session_epoch, d.session_epoch + 1),
        session_began_at = CASE WHEN e.session_id = ANY (fresh)
            THEN greatest(clock_timestamp(), d.session_began_at + interval '1 microsecond')
            ELSE coalesce(e.began_at, '-infinity') END,
        location = e.location, tags = e.tags, capacity = e.capacity, agent_version = e.agent_version,
        remote_address = e.remote_address, quic_remote_address = NULL, connected_at = e.started_at,
        last_heartbeat_at = NULL, rtt_ms = NULL, active_conns = 0, bytes_sent = 0, bytes_received = 0,
        cpu_utilization = NULL, memory_used_bytes = NULL, memory_total_bytes = NULL, load_sampled_at = NULL,
        last_seen_at = greatest(d.last_seen_at, e.started_at)
    FROM unnest(entries) e
    WHERE d.device_id = e.device_id AND d.session_id IS DISTINCT FROM e.session_id AND (
        e.session_id = ANY (fresh) OR e.began_at > d.session_began_at
        OR d.status = 'offline' AND (e.began_at IS NOT NULL OR e.session_epoch > d.session_epoch));
    UPDATE pop.device_sessions s SET session_epoch = d.session_epoch
    FROM unnest(entries) e JOIN pop.devices d ON d.device_id = e.device_id AND d.session_id = e.session_id
    WHERE s.session_id = e.session_id AND s.session_epoch <> d.session_epoch;
    RETURN QUERY
    SELECT e.session_id, d.device_id, d.session_epoch, d.first_seen_at, d.session_id = e.session_id
    FROM unnest(entries) e JOIN pop.devices d ON d.device_id = e.device_id;
END $$;

-- Rows of sessions that have none; the ids of those.
CREATE FUNCTION pop.add_sessions(of_node text, of_incarnation uuid, entries pop.session_entry[]) RETURNS uuid[]
LANGUAGE sql AS $$
    WITH added AS (
        INSERT INTO pop.device_sessions (session_id, device_id, node_id, node_incarnation, session_epoch,
            started_at, last_seen_at, remote_address, agent_version, location, tags)
        SELECT e.session_id, e.device_id, of_node, of_incarnation, e.session_epoch, e.started_at, e.started_at,
            e.remote_ip, e.agent_version, e.location, e.tags
        FROM unnest(entries) e
        ON CONFLICT DO NOTHING RETURNING session_id
    )
    SELECT coalesce(array_agg(session_id), '{}') FROM added
$$;

-- Puts sessions on record as they begin. Said again, it takes back nothing that has happened since.
CREATE FUNCTION pop.enter_sessions(of_node text, of_incarnation uuid, entries pop.session_entry[])
RETURNS TABLE (session_id uuid, device_id text, session_epoch bigint, first_seen_at timestamptz, is_owner boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    added uuid[] := pop.add_sessions(of_node, of_incarnation, entries);
    taking pop.session_entry[];
    fresh uuid[];
BEGIN
    -- One whose row was there may be over by now.
    taking := ARRAY(
        SELECT e FROM unnest(entries) e
        WHERE e.takes_device AND (e.session_id = ANY (added) OR EXISTS (
            SELECT FROM pop.device_sessions s WHERE s.session_id = e.session_id AND s.ended_at IS NULL)));
    -- This moment is a second long: what began before may have been overtaken on its way here.
    fresh := ARRAY(
        SELECT e.session_id FROM unnest(taking) e
        WHERE e.session_id = ANY (added) AND e.began_at > clock_timestamp() - interval '1 second');
    RETURN QUERY SELECT * FROM pop.take_devices(of_node, taking, fresh);
END $$;

-- Makes what is on record of sessions that live true again: of a node that lost its lease, or of sessions that began
-- without the database. Says of those that were not on record as they should be who has their devices.
CREATE FUNCTION pop.claim_sessions(of_node text, of_incarnation uuid, entries pop.session_entry[])
RETURNS TABLE (session_id uuid, device_id text, session_epoch bigint, first_seen_at timestamptz, is_owner boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    amiss pop.session_entry[];
    taking pop.session_entry[];
BEGIN
    -- Most are as they should be after a short break: nothing of those is locked or written.
    amiss := ARRAY(
        SELECT e FROM unnest(entries) e
        LEFT JOIN pop.device_sessions s ON s.session_id = e.session_id
        LEFT JOIN pop.devices d ON d.device_id = e.device_id
        WHERE s.session_id IS NULL OR s.ended_at IS NOT NULL
            OR e.takes_device AND (d.session_id IS DISTINCT FROM e.session_id OR d.status <> 'online'));
    -- A claim may arrive late, over a connection that was given up: what has ended stays so.
    PERFORM FROM pop.device_sessions s
    WHERE s.session_id = ANY (ARRAY(SELECT e.session_id FROM unnest(amiss) e)) FOR UPDATE;
    amiss := ARRAY(
        SELECT e FROM unnest(amiss) e WHERE NOT EXISTS (
            SELECT FROM pop.device_sessions s
            WHERE s.session_id = e.session_id AND s.end_reason <> 'node_lost'));
    IF cardinality(amiss) = 0 THEN RETURN; END IF;
    PERFORM pop.add_sessions(of_node, of_incarnation, amiss);
    taking := ARRAY(SELECT e FROM unnest(amiss) e WHERE e.takes_device);
    RETURN QUERY SELECT * FROM pop.take_devices(of_node, taking, '{}');
    UPDATE pop.devices d SET status = 'online', node_id = of_node, health = 'control_only',
        session_began_at = CASE WHEN d.session_began_at = '-infinity' THEN coalesce(e.began_at, '-infinity')
            ELSE d.session_began_at END
    FROM unnest(taking) e
    WHERE d.device_id = e.device_id AND d.session_id = e.session_id AND d.status <> 'online';
    UPDATE pop.device_sessions s SET ended_at = NULL, end_reason = NULL
    FROM unnest(amiss) e JOIN pop.devices d ON d.device_id = e.device_id
    WHERE s.session_id = e.session_id AND s.end_reason = 'node_lost'
        AND (NOT e.takes_device OR d.session_id = e.session_id);
    DELETE FROM pop.session_takeovers t USING unnest(taking) e, pop.devices d
    WHERE t.node_id = of_node AND t.session_id = e.session_id
        AND d.device_id = e.device_id AND d.session_id = e.session_id;
END $$;

-- Closes open sessions of these nodes, at most so many, but for those of one life; says how many.
CREATE FUNCTION pop.close_lost_sessions(of_nodes text[], spared uuid, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    closed uuid[];
BEGIN
    WITH chosen AS (
        SELECT s.session_id FROM pop.device_sessions s
        WHERE s.node_id = ANY (of_nodes) AND s.ended_at IS NULL AND s.node_incarnation IS DISTINCT FROM spared
        LIMIT most FOR UPDATE SKIP LOCKED
    ), ended AS (
        UPDATE pop.device_sessions s SET end_reason = 'node_lost',
            ended_at = greatest(s.started_at, s.last_seen_at, (
                SELECT n.last_seen_at FROM pop.nodes n
                WHERE n.node_id = s.node_id AND n.incarnation = s.node_incarnation))
        FROM chosen c WHERE s.session_id = c.session_id
        RETURNING s.session_id
    )
    SELECT coalesce(array_agg(e.session_id), '{}') INTO closed FROM ended e;
    PERFORM FROM pop.devices d WHERE d.session_id = ANY (closed) ORDER BY d.device_id FOR UPDATE;
    UPDATE pop.devices d SET status = 'offline', health = NULL, active_conns = 0,
        last_seen_at = greatest(d.last_seen_at, s.ended_at)
    FROM pop.device_sessions s
    WHERE d.session_id = ANY (closed) AND s.session_id = d.session_id AND d.status <> 'offline';
    RETURN cardinality(closed);
END $$;

-- Deals with nodes whose lease is over, so many sessions at a time, one caller at a time. A drain ends with its node;
-- that it goes on is for the node to say, if it comes back.
CREATE FUNCTION pop.reap_lost_nodes(most integer)
RETURNS TABLE (lost_nodes text[], sessions_closed integer, has_more boolean)
LANGUAGE plpgsql AS $$
DECLARE
    silent text[];
BEGIN
    lost_nodes := '{}';
    sessions_closed := 0;
    has_more := false;
    IF pg_try_advisory_xact_lock(hashtext('pop.reap_lost_nodes')) THEN
        -- Also one that was dealt with and has written since, e.g. as it came back, and fell silent again.
        silent := ARRAY(
            SELECT n.node_id FROM pop.nodes n
            WHERE n.last_seen_at < now() - interval '10 seconds' AND (n.state <> 'down' OR EXISTS (
                SELECT FROM pop.device_sessions s WHERE s.node_id = n.node_id AND s.ended_at IS NULL))
            ORDER BY n.node_id FOR UPDATE OF n SKIP LOCKED);
    END IF;
    IF cardinality(silent) > 0 THEN
        lost_nodes := ARRAY(
            SELECT n.node_id FROM pop.nodes n WHERE n.node_id = ANY (silent) AND n.state <> 'down');
        UPDATE pop.nodes n SET state = 'down', lease_term = n.lease_term + 1, lost_at = coalesce(n.lost_at, now())
        WHERE n.node_id = ANY (silent);
        UPDATE pop.drains d SET state = 'canceled', ended_at = now()
        WHERE d.node_id = ANY (silent) AND d.ended_at IS NULL;
        DELETE FROM pop.session_takeovers t WHERE t.node_id = ANY (silent);
        sessions_closed := pop.close_lost_sessions(silent, NULL, most);
        has_more := sessions_closed = most;
    END IF;
    RETURN NEXT;
END $$;
