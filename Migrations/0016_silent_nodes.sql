-- Purpose: a node that was declared lost is silent and not stopped, so that whoever watches for silent nodes is told.
-- Breaking: no

CREATE OR REPLACE VIEW pop.dashboard_nodes AS
SELECT node_id, pop.node_state(state, last_seen_at) AS state, location, advertise_host, wss_port, quic_port,
    version, started_at, last_seen_at, extract(epoch FROM now() - last_seen_at) AS age_seconds,
    devices_online, conns_active, bytes_sent, bytes_received, cpu_utilization, memory_used_bytes,
    CASE WHEN last_seen_at < now() - interval '10 seconds' THEN last_seen_at END AS silent_since,
    CASE
        WHEN last_seen_at >= now() - interval '10 seconds' THEN state
        WHEN state = 'down' AND lost_at IS NULL
            THEN 'stopped at ' || to_char(last_seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
        ELSE 'silent since ' || to_char(last_seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
    END AS status,
    extract(epoch FROM now() - started_at) AS uptime_seconds
FROM pop.nodes;
