-- Purpose: what operators do and decide: drains, the audit trail, tokens, ingress users, sticky sessions.
-- Breaking: no

CREATE TABLE pop.drains (
    drain_id uuid PRIMARY KEY,
    node_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN (
        'none', 'handover', 'settling', 'forcing', 'drained', 'held', 'canceled')),
    version bigint NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    ended_at timestamptz,
    deadline_seconds bigint NOT NULL CHECK (deadline_seconds >= 0),
    devices_per_second double precision NOT NULL CHECK (devices_per_second > 0),
    redirect_to text[] NOT NULL DEFAULT '{}',
    on_deadline text NOT NULL CHECK (on_deadline IN ('cut', 'hold')),
    reason text NOT NULL DEFAULT '',
    actor text NOT NULL DEFAULT '',
    devices_total bigint NOT NULL DEFAULT 0,
    devices_moved bigint NOT NULL DEFAULT 0,
    devices_remaining bigint NOT NULL DEFAULT 0,
    conns_remaining bigint NOT NULL DEFAULT 0,
    conns_cut bigint NOT NULL DEFAULT 0
);

CREATE INDEX drains_by_start ON pop.drains (started_at DESC, drain_id DESC);
CREATE INDEX drains_by_node ON pop.drains (node_id, started_at DESC, drain_id DESC);

-- Every unsafe call of the admin API, refused ones too.
CREATE TABLE pop.audit_log (
    audit_id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    token_id text,
    remote_address text,
    node_id text COLLATE "C" NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    status integer NOT NULL,
    reason text NOT NULL DEFAULT ''
);

CREATE INDEX audit_log_by_time ON pop.audit_log (at DESC, audit_id DESC);

-- Secrets are random and long, so a plain SHA-256 of them is enough to check one and useless to a thief.
CREATE TABLE pop.admin_tokens (
    token_id uuid PRIMARY KEY,
    name text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('read', 'operate', 'admin')),
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);

CREATE TABLE pop.device_tokens (
    device_id text COLLATE "C" PRIMARY KEY CHECK (device_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Passwords are chosen by people, so their hash is salted and slow; the text names its own parameters.
CREATE TABLE pop.users (
    name text COLLATE "C" PRIMARY KEY,
    password_hash text NOT NULL,
    max_conns bigint CHECK (max_conns >= 0),
    bytes_quota bigint CHECK (bytes_quota >= 0),
    rate_bytes_per_second bigint CHECK (rate_bytes_per_second >= 0),
    allowed_locations text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pop.sticky_sessions (
    user_name text COLLATE "C" NOT NULL,
    session_key text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_name, session_key)
);

CREATE INDEX sticky_sessions_by_expiry ON pop.sticky_sessions (expires_at);
