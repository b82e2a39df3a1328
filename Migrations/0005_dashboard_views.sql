-- Purpose: the dashboards' stable interface: views with ages where they show live state, and their role.
-- Breaking: no

CREATE VIEW pop.dashboard_nodes AS
SELECT node_id, pop.node_state(state, last_seen_at) AS state, location, advertise_host, wss_port, quic_port,
    version, started_at, last_seen_at, extract(epoch FROM now() - last_seen_at) AS age_seconds,
    devices_online, conns_active, bytes_sent, bytes_received, cpu_utilization, memory_used_bytes
FROM pop.nodes;

CREATE VIEW pop.dashboard_devices AS
SELECT d.device_id, d.status, d.enabled, d.node_id, d.session_id, d.location, d.tags, d.capacity,
    d.agent_version, d.remote_address, d.quic_remote_address, d.health, d.connected_at, d.last_heartbeat_at,
    d.rtt_ms, d.active_conns, d.bytes_sent, d.bytes_received, d.cpu_utilization, d.memory_used_bytes,
    d.memory_total_bytes, d.first_seen_at, d.last_seen_at,
    extract(epoch FROM now() - d.last_seen_at) AS age_seconds,
    -- What a lost node said of its devices is history.
    coalesce(pop.node_state(n.state, n.last_seen_at) = 'down', true) AS is_stale
FROM pop.devices d LEFT JOIN pop.nodes n USING (node_id);

CREATE VIEW pop.dashboard_sessions AS
SELECT session_id, device_id, node_id, started_at, ended_at, ended_at IS NULL AS is_open, end_reason,
    extract(epoch FROM coalesce(ended_at, now()) - started_at) AS duration_seconds,
    extract(epoch FROM now() - last_seen_at) AS age_seconds,
    remote_address, agent_version, location, tags, bytes_sent, bytes_received, conns_total, resumes, migrations
FROM pop.device_sessions;

CREATE VIEW pop.dashboard_load AS
SELECT device_id, session_id, node_id, sampled_at, active_conns, bytes_sent, bytes_received, cpu_utilization,
    memory_used_bytes, memory_total_bytes, rtt_ms
FROM pop.device_load;

CREATE VIEW pop.dashboard_node_load AS
SELECT node_id, sampled_at, devices_online, conns_active, bytes_sent, bytes_received, cpu_utilization,
    memory_used_bytes
FROM pop.node_load;

CREATE VIEW pop.dashboard_conns AS
SELECT conn_id, node_id, device_id, session_id, user_name, protocol, client_address, target, resolved_address,
    opened_at, ended_at, bytes_sent, bytes_received, end_reason
FROM pop.conns;

-- A role belongs to the whole cluster: another database's migration may make it at the same moment, and a
-- hosted database may not let us make it at all. Then an operator makes it and grants the views.
DO $$
DECLARE
    view_name text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pop_dashboard') THEN
        BEGIN
            CREATE ROLE pop_dashboard NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role pop_dashboard is missing and this user lacks CREATEROLE: create it and '
                    'grant it USAGE on schema pop and SELECT on the views pop.dashboard_*';
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pop_dashboard') THEN
        GRANT USAGE ON SCHEMA pop TO pop_dashboard;
        FOR view_name IN
            SELECT table_name FROM information_schema.views
            WHERE table_schema = 'pop' AND table_name LIKE 'dashboard\_%'
        LOOP
            EXECUTE format('GRANT SELECT ON pop.%I TO pop_dashboard', view_name);
        END LOOP;
    END IF;
END $$;
