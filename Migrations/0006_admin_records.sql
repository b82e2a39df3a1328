-- Purpose: what the admin API needs beside the rows it changes: numbers by which every node notices changes of
-- admin tokens and of who may come in, the use of tokens, answers to repeated calls, whole drains.
-- Breaking: no

-- Every node looks at these numbers about once a second. The row's lock is held until its change is committed,
-- so the numbers of a subject are committed in their order and none is passed over.
CREATE TABLE pop.revisions (
    subject text PRIMARY KEY,
    revision bigint NOT NULL
);
INSERT INTO pop.revisions (subject, revision) VALUES ('admin_tokens', 0), ('admissions', 0);

CREATE FUNCTION pop.next_revision(of_subject text) RETURNS bigint
LANGUAGE sql AS $$
    UPDATE pop.revisions SET revision = revision + 1 WHERE subject = of_subject RETURNING revision
$$;

-- Admin tokens.

ALTER TABLE pop.admin_tokens
    ADD COLUMN created_by text NOT NULL DEFAULT '',
    -- Written a few seconds late, in sets.
    ADD COLUMN last_used_at timestamptz;

CREATE INDEX admin_tokens_by_creation ON pop.admin_tokens (created_at DESC, token_id DESC);

-- By trigger, so that a token that is deleted by hand is revoked, too.
CREATE FUNCTION pop.admin_tokens_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pop.next_revision('admin_tokens');
    RETURN NULL;
END $$;

CREATE TRIGGER admin_tokens_changed
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF name, scope, token_sha256, expires_at
    ON pop.admin_tokens FOR EACH STATEMENT EXECUTE FUNCTION pop.admin_tokens_changed();

-- Who may come in: the last change of each device that ever had one, in the order of the changes.
CREATE TABLE pop.admissions (
    device_id text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL UNIQUE,
    -- Of the loss of its token; 0 when it never had one or has another by now.
    revoked_revision bigint NOT NULL DEFAULT 0
);

-- The devices that are kept out are read whole when a node starts.
CREATE INDEX devices_disabled ON pop.devices (device_id) WHERE NOT enabled;

CREATE FUNCTION pop.admission_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    device text := CASE WHEN TG_OP = 'DELETE' THEN OLD.device_id ELSE NEW.device_id END;
    number bigint := pop.next_revision('admissions');
BEGIN
    INSERT INTO pop.admissions AS a (device_id, revision, revoked_revision)
    VALUES (device, number, CASE WHEN TG_ARGV[0] = 'token' AND TG_OP = 'DELETE' THEN number ELSE 0 END)
    ON CONFLICT (device_id) DO UPDATE SET revision = excluded.revision, revoked_revision =
        CASE WHEN TG_ARGV[0] = 'token' THEN excluded.revoked_revision ELSE a.revoked_revision END;
    RETURN NULL;
END $$;

CREATE TRIGGER device_added_disabled AFTER INSERT ON pop.devices
    FOR EACH ROW WHEN (NOT NEW.enabled) EXECUTE FUNCTION pop.admission_changed('enabled');
CREATE TRIGGER device_enabled_changed AFTER UPDATE OF enabled ON pop.devices
    FOR EACH ROW WHEN (OLD.enabled <> NEW.enabled) EXECUTE FUNCTION pop.admission_changed('enabled');
CREATE TRIGGER device_removed_disabled AFTER DELETE ON pop.devices
    FOR EACH ROW WHEN (NOT OLD.enabled) EXECUTE FUNCTION pop.admission_changed('enabled');
CREATE TRIGGER device_token_changed AFTER INSERT OR UPDATE OR DELETE ON pop.device_tokens
    FOR EACH ROW EXECUTE FUNCTION pop.admission_changed('token');

-- Answers by Idempotency-Key, kept for 24 h.
CREATE TABLE pop.idempotency_keys (
    -- The id of the token that the call came with; `bootstrap` for the one that is no row.
    owner text NOT NULL,
    key text NOT NULL,
    -- Of method, path, query and body: the same key can't be used for another call.
    request_sha256 bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    -- The attempt that is at work, or was.
    claim uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    -- Null while the call is at work.
    status integer,
    location text,
    etag text,
    -- Null where there was none, or where it held a secret.
    body text,
    PRIMARY KEY (owner, key)
);

CREATE INDEX idempotency_keys_by_age ON pop.idempotency_keys (claimed_at);

-- The audit trail by who did it; strangers' calls are dropped with what else expires.
CREATE INDEX audit_log_by_actor ON pop.audit_log (actor, at DESC, audit_id DESC);
CREATE INDEX audit_log_of_strangers ON pop.audit_log (at) WHERE actor = '';

-- Drains.

ALTER TABLE pop.drains
    ADD COLUMN eta_seconds bigint NOT NULL DEFAULT 0,
    ADD COLUMN blockers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN targets text[] NOT NULL DEFAULT '{}',
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

CREATE INDEX drains_running ON pop.drains (node_id) WHERE ended_at IS NULL;

-- The most devices a node takes; 0 where it has not said so yet.
ALTER TABLE pop.nodes ADD COLUMN max_devices bigint NOT NULL DEFAULT 0;

-- What has no partitions to be dropped: answers after a day; the calls of strangers, and tokens that have
-- expired, after `retention_days`. Authorised calls stay.
CREATE FUNCTION pop.drop_expired_records(retention_days integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    oldest timestamptz := now() - retention_days * interval '1 day';
BEGIN
    DELETE FROM pop.idempotency_keys WHERE claimed_at < now() - interval '24 hours';
    DELETE FROM pop.audit_log WHERE actor = '' AND at < oldest;
    DELETE FROM pop.admin_tokens WHERE expires_at < oldest;
END $$;
