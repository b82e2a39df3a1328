-- Purpose: ingress users as nodes need them: numbers by which changes are noticed, and what users have carried.
-- Breaking: no

INSERT INTO pop.revisions (subject, revision) VALUES ('users', 0);

-- The last change of each user that ever was, in the order of the changes. A user that is not in pop.users was
-- deleted.
CREATE TABLE pop.user_changes (
    name text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL UNIQUE
);

-- By trigger, so that a user who is changed by hand is noticed, too.
CREATE FUNCTION pop.user_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pop.user_changes (name, revision)
    VALUES (CASE WHEN TG_OP = 'DELETE' THEN OLD.name ELSE NEW.name END, pop.next_revision('users'))
    ON CONFLICT (name) DO UPDATE SET revision = excluded.revision;
    RETURN NULL;
END $$;

CREATE TRIGGER user_changed AFTER INSERT OR UPDATE OR DELETE ON pop.users
    FOR EACH ROW EXECUTE FUNCTION pop.user_changed();

-- Bytes of a user by month (its first day, UTC) and by the life of the node that counted them: each life writes
-- what it has counted in all, so that writing it twice counts once. They may be written before or after the user.
CREATE TABLE pop.user_usage (
    user_name text COLLATE "C" NOT NULL,
    month date NOT NULL,
    node_id text COLLATE "C" NOT NULL,
    incarnation uuid NOT NULL,
    bytes_sent bigint NOT NULL,
    bytes_received bigint NOT NULL,
    PRIMARY KEY (user_name, month, node_id, incarnation)
);

CREATE INDEX user_usage_by_month ON pop.user_usage (month);

-- As before, and sticky sessions that are over, and usage of months that are no one's business any more.
CREATE OR REPLACE FUNCTION pop.drop_expired_records(retention_days integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    oldest timestamptz := now() - retention_days * interval '1 day';
BEGIN
    DELETE FROM pop.idempotency_keys WHERE claimed_at < now() - interval '24 hours';
    DELETE FROM pop.audit_log WHERE actor = '' AND at < oldest;
    DELETE FROM pop.admin_tokens WHERE expires_at < oldest;
    DELETE FROM pop.sticky_sessions WHERE expires_at < now() - interval '1 hour';
    DELETE FROM pop.user_usage WHERE month < date_trunc('month', now() AT TIME ZONE 'UTC')
        AND month < oldest - interval '1 month';
END $$;
