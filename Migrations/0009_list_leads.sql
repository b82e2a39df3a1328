-- Purpose: lists of devices by a tag, and by the number of conns with any filter, in every order (docs/adr/0011).
-- Breaking: no

-- What is in these tables follows from pop.devices: they are made anew.
DROP TRIGGER devices_added ON pop.devices;
DROP TRIGGER device_tags_changed ON pop.devices;
DROP TRIGGER device_conns_changed ON pop.devices;
DROP TRIGGER device_tags_removed ON pop.devices;
DROP TRIGGER device_conns_removed ON pop.devices;
DROP FUNCTION pop.devices_added(), pop.device_tags_changed(), pop.device_conns_changed();
DROP TABLE pop.device_tags, pop.busy_devices;

-- The tags of each device, with what lists of a tag are ordered by. A device that never connected sorts before all
-- that did.
CREATE TABLE pop.device_tags (
    tag text COLLATE "C" NOT NULL,
    status text NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    connected_at timestamptz NOT NULL,
    PRIMARY KEY (tag, status, device_id)
);

CREATE INDEX device_tags_by_connected ON pop.device_tags (tag, status, connected_at, device_id);

-- The devices that have conns, for lists by their number; all others have none. Few rows of a big fleet, and
-- the only ones whose index entries move with every conn.
CREATE TABLE pop.busy_devices (
    device_id text COLLATE "C" PRIMARY KEY,
    status text NOT NULL,
    node_id text COLLATE "C",
    location text NOT NULL,
    active_conns bigint NOT NULL CHECK (active_conns > 0)
);

CREATE INDEX busy_devices_by_conns ON pop.busy_devices (status, active_conns, device_id);
CREATE INDEX busy_devices_by_node ON pop.busy_devices (node_id, status, active_conns, device_id);
CREATE INDEX busy_devices_by_location ON pop.busy_devices (location, status, active_conns, device_id);

CREATE TABLE pop.busy_tags (
    tag text COLLATE "C" NOT NULL,
    status text NOT NULL,
    active_conns bigint NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, status, active_conns, device_id)
);

-- By triggers, so that all three follow whoever writes devices.
CREATE FUNCTION pop.devices_added() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pop.device_tags (tag, status, device_id, connected_at)
        SELECT DISTINCT unnest(tags), status, device_id, coalesce(connected_at, '-infinity') FROM added
        ON CONFLICT DO NOTHING;
    INSERT INTO pop.busy_devices (device_id, status, node_id, location, active_conns)
        SELECT device_id, status, node_id, location, active_conns FROM added WHERE active_conns > 0
        ON CONFLICT DO NOTHING;
    INSERT INTO pop.busy_tags (tag, status, active_conns, device_id)
        SELECT DISTINCT unnest(tags), status, active_conns, device_id FROM added WHERE active_conns > 0
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION pop.device_tags_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM pop.device_tags
        WHERE tag = ANY (OLD.tags) AND status = OLD.status AND device_id = OLD.device_id;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO pop.device_tags (tag, status, device_id, connected_at)
            SELECT DISTINCT unnest(NEW.tags), NEW.status, NEW.device_id,
                coalesce(NEW.connected_at, '-infinity')
            ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION pop.device_conns_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.active_conns > 0 THEN
        DELETE FROM pop.busy_tags WHERE tag = ANY (OLD.tags) AND status = OLD.status
            AND active_conns = OLD.active_conns AND device_id = OLD.device_id;
    END IF;
    IF TG_OP = 'DELETE' OR NEW.active_conns = 0 OR NEW.device_id <> OLD.device_id THEN
        DELETE FROM pop.busy_devices WHERE device_id = OLD.device_id;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.active_conns > 0 THEN
        INSERT INTO pop.busy_devices AS b (device_id, status, node_id, location, active_conns)
            VALUES (NEW.device_id, NEW.status, NEW.node_id, NEW.location, NEW.active_conns)
            ON CONFLICT (device_id) DO UPDATE SET status = excluded.status, node_id = excluded.node_id,
                location = excluded.location, active_conns = excluded.active_conns;
        INSERT INTO pop.busy_tags (tag, status, active_conns, device_id)
            SELECT DISTINCT unnest(NEW.tags), NEW.status, NEW.active_conns, NEW.device_id
            ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION pop.devices_emptied() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE pop.device_tags, pop.busy_devices, pop.busy_tags;
    RETURN NULL;
END $$;

CREATE TRIGGER devices_added AFTER INSERT ON pop.devices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION pop.devices_added();
CREATE TRIGGER device_tags_changed AFTER UPDATE ON pop.devices
    FOR EACH ROW WHEN (OLD.tags <> NEW.tags OR OLD.status <> NEW.status
        OR OLD.connected_at IS DISTINCT FROM NEW.connected_at OR OLD.device_id <> NEW.device_id)
    EXECUTE FUNCTION pop.device_tags_changed();
CREATE TRIGGER device_conns_changed AFTER UPDATE ON pop.devices
    FOR EACH ROW WHEN ((OLD.active_conns > 0 OR NEW.active_conns > 0)
        AND (OLD.active_conns <> NEW.active_conns OR OLD.status <> NEW.status OR OLD.tags <> NEW.tags
            OR OLD.node_id IS DISTINCT FROM NEW.node_id OR OLD.location <> NEW.location
            OR OLD.device_id <> NEW.device_id))
    EXECUTE FUNCTION pop.device_conns_changed();
CREATE TRIGGER device_tags_removed AFTER DELETE ON pop.devices
    FOR EACH ROW WHEN (OLD.tags <> '{}') EXECUTE FUNCTION pop.device_tags_changed();
CREATE TRIGGER device_conns_removed AFTER DELETE ON pop.devices
    FOR EACH ROW WHEN (OLD.active_conns > 0) EXECUTE FUNCTION pop.device_conns_changed();

INSERT INTO pop.device_tags (tag, status, device_id, connected_at)
    SELECT DISTINCT unnest(tags), status, device_id, coalesce(connected_at, '-infinity') FROM pop.devices;
INSERT INTO pop.busy_devices (device_id, status, node_id, location, active_conns)
    SELECT device_id, status, node_id, location, active_conns FROM pop.devices WHERE active_conns > 0;
INSERT INTO pop.busy_tags (tag, status, active_conns, device_id)
    SELECT DISTINCT unnest(tags), status, active_conns, device_id FROM pop.devices WHERE active_conns > 0;
