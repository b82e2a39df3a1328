-- Purpose: lists of devices and sessions whose pages cost the same however many rows there are, whatever they are
-- filtered by and in whichever order (docs/adr/0011), and writes of a device's state that touch no index.
-- Breaking: no

-- Devices.

-- What changes with every report stands in no index, so that such a write is a new version of the row on its own
-- page (HOT) and nothing else; pages keep room for it.
ALTER TABLE pop.devices SET (fillfactor = 80);

DROP INDEX pop.devices_by_connected_at, pop.devices_by_active_conns, pop.devices_by_node,
    pop.devices_by_location, pop.devices_by_tag, pop.devices_online;

-- One for each filter that is an equality and each order: a page is a stretch of one of them. Without a filter on
-- the status, two stretches are merged.
CREATE INDEX devices_by_status ON pop.devices (status, device_id);
CREATE INDEX devices_by_status_connected
    ON pop.devices (status, (coalesce(connected_at, '-infinity')), device_id);
CREATE INDEX devices_by_node ON pop.devices (node_id, status, device_id);
CREATE INDEX devices_by_node_connected
    ON pop.devices (node_id, status, (coalesce(connected_at, '-infinity')), device_id);
CREATE INDEX devices_by_location ON pop.devices (location, status, device_id);
CREATE INDEX devices_by_location_connected
    ON pop.devices (location, status, (coalesce(connected_at, '-infinity')), device_id);

-- The tags of each device again, in the order of lists; how rare one is can be seen by reading a few rows of it.
CREATE TABLE pop.device_tags (
    tag text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, device_id)
);

-- The devices that have conns, for lists by their number; all others have none. Few rows of a big fleet, and
-- the only ones whose index entries move with every conn.
CREATE TABLE pop.busy_devices (
    device_id text COLLATE "C" PRIMARY KEY,
    node_id text COLLATE "C",
    location text NOT NULL,
    active_conns bigint NOT NULL CHECK (active_conns > 0)
);

CREATE INDEX busy_devices_by_conns ON pop.busy_devices (active_conns, device_id);
CREATE INDEX busy_devices_by_node ON pop.busy_devices (node_id, active_conns, device_id);
CREATE INDEX busy_devices_by_location ON pop.busy_devices (location, active_conns, device_id);

INSERT INTO pop.device_tags SELECT DISTINCT unnest(tags), device_id FROM pop.devices;
INSERT INTO pop.busy_devices
    SELECT device_id, node_id, location, active_conns FROM pop.devices WHERE active_conns > 0;

-- By triggers, so that both follow whoever writes devices.
CREATE FUNCTION pop.devices_added() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pop.device_tags SELECT DISTINCT unnest(tags), device_id FROM added ON CONFLICT DO NOTHING;
    INSERT INTO pop.busy_devices
        SELECT device_id, node_id, location, active_conns FROM added WHERE active_conns > 0
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION pop.device_tags_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM pop.device_tags WHERE device_id = OLD.device_id AND tag = ANY (OLD.tags);
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO pop.device_tags SELECT DISTINCT unnest(NEW.tags), NEW.device_id ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION pop.device_conns_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.active_conns = 0 OR NEW.device_id <> OLD.device_id THEN
        DELETE FROM pop.busy_devices WHERE device_id = OLD.device_id;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.active_conns > 0 THEN
        INSERT INTO pop.busy_devices AS b VALUES (NEW.device_id, NEW.node_id, NEW.location, NEW.active_conns)
        ON CONFLICT (device_id) DO UPDATE SET node_id = excluded.node_id, location = excluded.location,
            active_conns = excluded.active_conns;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION pop.devices_emptied() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE pop.device_tags, pop.busy_devices;
    RETURN NULL;
END $$;

CREATE TRIGGER devices_added AFTER INSERT ON pop.devices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION pop.devices_added();
CREATE TRIGGER device_tags_changed AFTER UPDATE ON pop.devices
    FOR EACH ROW WHEN (OLD.tags <> NEW.tags OR OLD.device_id <> NEW.device_id)
    EXECUTE FUNCTION pop.device_tags_changed();
CREATE TRIGGER device_conns_changed AFTER UPDATE ON pop.devices
    FOR EACH ROW WHEN (OLD.active_conns <> NEW.active_conns OR OLD.device_id <> NEW.device_id
        OR NEW.active_conns > 0
            AND (OLD.node_id IS DISTINCT FROM NEW.node_id OR OLD.location <> NEW.location))
    EXECUTE FUNCTION pop.device_conns_changed();
CREATE TRIGGER device_tags_removed AFTER DELETE ON pop.devices
    FOR EACH ROW WHEN (OLD.tags <> '{}') EXECUTE FUNCTION pop.device_tags_changed();
CREATE TRIGGER device_conns_removed AFTER DELETE ON pop.devices
    FOR EACH ROW WHEN (OLD.active_conns > 0) EXECUTE FUNCTION pop.device_conns_changed();
CREATE TRIGGER devices_emptied AFTER TRUNCATE ON pop.devices
    FOR EACH STATEMENT EXECUTE FUNCTION pop.devices_emptied();

-- Sessions.

DROP INDEX pop.device_sessions_by_start, pop.device_sessions_by_device, pop.device_sessions_by_node;

-- As with devices: whether it is open stands before the order.
CREATE INDEX device_sessions_by_start ON pop.device_sessions ((ended_at IS NULL), started_at, session_id);
CREATE INDEX device_sessions_by_device
    ON pop.device_sessions (device_id, (ended_at IS NULL), started_at, session_id);
CREATE INDEX device_sessions_by_node
    ON pop.device_sessions (node_id, (ended_at IS NULL), started_at, session_id);
