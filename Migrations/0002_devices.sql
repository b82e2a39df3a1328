-- Purpose: devices with their current state, and the history of their sessions.
-- Breaking: no

CREATE TABLE pop.devices (
    device_id text COLLATE "C" PRIMARY KEY CHECK (device_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    enabled boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'offline')),
    -- Of the current session, or of the last one.
    node_id text COLLATE "C",
    session_id uuid,
    -- Grows with each new session; a late write of an older session must not win over a newer one.
    session_epoch bigint NOT NULL DEFAULT 0,
    location text NOT NULL DEFAULT '' CHECK (octet_length(location) <= 128),
    tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 32),
    capacity bigint NOT NULL DEFAULT 0 CHECK (capacity >= 0),
    agent_version text NOT NULL DEFAULT '',
    -- `ip:port`, as the API shows them.
    remote_address text,
    quic_remote_address text,
    health text CHECK (health IN ('whole', 'control_only', 'data_only')),
    connected_at timestamptz,
    last_heartbeat_at timestamptz,
    rtt_ms double precision,
    active_conns bigint NOT NULL DEFAULT 0,
    bytes_sent bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    cpu_utilization double precision,
    memory_used_bytes bigint,
    memory_total_bytes bigint,
    load_sampled_at timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    -- An offline device has no planes; an online one has a session somewhere.
    CHECK (status = 'offline' OR (node_id IS NOT NULL AND session_id IS NOT NULL AND health IS NOT NULL))
);

-- Lists are paged by key, never by offset: each sort has an index that ends with the id. A device that never
-- connected sorts before all that did.
CREATE INDEX devices_by_connected_at ON pop.devices ((coalesce(connected_at, '-infinity')), device_id);
CREATE INDEX devices_by_active_conns ON pop.devices (active_conns, device_id);
CREATE INDEX devices_by_node ON pop.devices (node_id, device_id);
CREATE INDEX devices_by_location ON pop.devices (location, device_id);
CREATE INDEX devices_by_tag ON pop.devices USING gin (tags);
CREATE INDEX devices_online ON pop.devices (device_id) WHERE status = 'online';
-- Ends and states of sessions find their device by the session.
CREATE INDEX devices_by_session ON pop.devices (session_id);

CREATE TABLE pop.device_sessions (
    session_id uuid PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL CHECK (device_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    node_id text COLLATE "C" NOT NULL,
    -- The life of the node that holds it.
    node_incarnation uuid NOT NULL,
    session_epoch bigint NOT NULL,
    started_at timestamptz NOT NULL,
    -- The last time its node had word of it; where it ends if nobody sees its end.
    last_seen_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text CHECK (end_reason IN (
        'goodbye', 'control_lost', 'heartbeat_lost', 'replaced', 'drained', 'operator', 'disabled', 'revoked',
        'node_stopped', 'node_lost', 'protocol_error')),
    remote_address inet,
    agent_version text NOT NULL DEFAULT '',
    location text NOT NULL DEFAULT '',
    tags text[] NOT NULL DEFAULT '{}',
    bytes_sent bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    conns_total bigint NOT NULL DEFAULT 0,
    resumes bigint NOT NULL DEFAULT 0,
    migrations bigint NOT NULL DEFAULT 0,
    -- A session is open, or has an end and a reason for it.
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK (ended_at >= started_at)
);

CREATE INDEX device_sessions_by_start ON pop.device_sessions (started_at DESC, session_id DESC);
CREATE INDEX device_sessions_by_device ON pop.device_sessions (device_id, started_at DESC, session_id DESC);
CREATE INDEX device_sessions_by_node ON pop.device_sessions (node_id, started_at DESC, session_id DESC);
-- A node's start closes what an earlier life left open: few rows among very many.
CREATE INDEX device_sessions_open ON pop.device_sessions (node_id, started_at DESC, session_id DESC)
    WHERE ended_at IS NULL;
