-- Purpose: a session's place among those of its device is the moment when it began, also if it was written at once: one
-- that began while it was on its way could lose its device to it.
-- Breaking: no

-- Gives devices to the sessions that may have them, each device asked for once; says who has it then.
--
--   - A session in `fresh` begins at this moment, so it is the newest there is. Its place is where it began, not where
--     it was written: a later one may be judged by its beginning before that.
--   - Any other has the device if it began after the session that has it, or if that one is over.
--   - One that can't say when it began does not come between others: if the device is offline and its epoch is
--     above all that are known, the row shows it as the device's last session.
--
-- A device's epoch grows with each session that gets it, whatever the clocks of nodes say.
CREATE OR REPLACE FUNCTION pop.take_devices(of_node text, entries pop.session_entry[], fresh uuid[])
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
            THEN greatest(e.began_at, d.session_began_at + interval '1 microsecond')
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
