-- Purpose: what one node asks of another (docs/adr/0017).
-- Breaking: no

-- A request lives for seconds: waiting -> claimed -> answered, and is removed by whoever asked.
--
-- Unlogged, so that its commits wait for no disk; above all because a crash of the server and a fail-over to a
-- standby leave an empty table then. A logged one could come back without the latest claims, and what was claimed
-- would be done a second time.
CREATE UNLOGGED TABLE pop.node_requests (
    request_id uuid PRIMARY KEY,
    asking_node text COLLATE "C" NOT NULL,
    -- An answer is for the life that has asked.
    asking_incarnation uuid NOT NULL,
    asked_node text COLLATE "C" NOT NULL,

    -- The call, as the asking node let it in.
    method text NOT NULL,
    target text NOT NULL,
    -- Names and values in turn.
    fields text[] NOT NULL,
    body text NOT NULL CHECK (octet_length(body) <= 2097152),
    actor text NOT NULL,
    token_id uuid,
    scope text NOT NULL,
    remote_address text NOT NULL,
    http_request_id text NOT NULL,

    -- All times are this database's.
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Nobody claims it, or begins with it, from then on.
    expires_at timestamptz NOT NULL,
    claimed_at timestamptz,
    answered_at timestamptz CHECK (answered_at IS NULL OR claimed_at IS NOT NULL),

    status integer,
    answer_fields text[],
    answer_media text,
    answer_body text CHECK (octet_length(answer_body) <= 8388608),
    answer_is_passing boolean,
    CHECK ((answered_at IS NULL) = (status IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE INDEX node_requests_waiting ON pop.node_requests (asked_node, created_at) WHERE claimed_at IS NULL;
CREATE INDEX node_requests_answered ON pop.node_requests (asking_node) WHERE answered_at IS NOT NULL;
CREATE INDEX node_requests_by_expiry ON pop.node_requests (expires_at);
