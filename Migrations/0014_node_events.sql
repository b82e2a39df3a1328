-- Purpose: what nodes tell each other of what happens, while somebody listens (docs/adr/0022).
-- Breaking: no

-- A batch of events is read within a second and removed after ten. Unlogged: what a crash of the server takes is
-- told as a gap, and a batch waits for no disk.
CREATE UNLOGGED TABLE pop.node_events (
    node_id text COLLATE "C" NOT NULL,
    -- Of the node's log of events: another one after each start.
    life bigint NOT NULL,
    -- Rises by one, so a missing batch is noticed.
    number bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A line for each event: its type, a space, its data.
    body text NOT NULL CHECK (octet_length(body) <= 8388608),
    PRIMARY KEY (node_id, life, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
