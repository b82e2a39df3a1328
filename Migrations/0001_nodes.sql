-- Purpose: nodes, their leases and their own samples.
-- Breaking: no

CREATE TABLE pop.nodes (
    -- The C collation orders ids by their bytes, as the node does, and lets a prefix search use the index.
    node_id text COLLATE "C" PRIMARY KEY CHECK (node_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    -- One life of the process: what an earlier life of the same node left open is told apart by it.
    incarnation uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'cordoned', 'draining', 'drained', 'down')),
    location text NOT NULL DEFAULT '',
    advertise_host text,
    wss_port integer NOT NULL CHECK (wss_port BETWEEN 0 AND 65535),
    quic_port integer NOT NULL CHECK (quic_port BETWEEN 0 AND 65535),
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    -- The lease: renewed every 2 s with this database's clock, lost after 10 s.
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    devices_online bigint NOT NULL DEFAULT 0,
    conns_active bigint NOT NULL DEFAULT 0,
    bytes_sent bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    cpu_utilization double precision NOT NULL DEFAULT 0,
    memory_used_bytes bigint NOT NULL DEFAULT 0
);

-- One sample a node every 10 s.
CREATE TABLE pop.node_load (
    node_id text COLLATE "C" NOT NULL,
    sampled_at timestamptz NOT NULL,
    devices_online bigint NOT NULL,
    conns_active bigint NOT NULL,
    bytes_sent bigint NOT NULL,
    bytes_received bigint NOT NULL,
    cpu_utilization double precision NOT NULL,
    memory_used_bytes bigint NOT NULL,
    PRIMARY KEY (node_id, sampled_at)
);

CREATE INDEX node_load_by_time ON pop.node_load (sampled_at);

-- What a node is worth right now: its word, unless its lease has run out.
CREATE FUNCTION pop.node_state(state text, last_seen_at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN last_seen_at < now() - interval '10 seconds' THEN 'down' ELSE state END
$$;
