-- Purpose: a stretch of a list with two fixed columns ends where its rows end: an index of each state, where there was
-- one for both with the state behind another column (docs/adr/0011).
-- Breaking: no

DROP INDEX pop.devices_by_node, pop.devices_by_node_connected, pop.devices_by_location,
    pop.devices_by_location_connected;

CREATE INDEX online_devices_by_node ON pop.devices (node_id, device_id) WHERE status = 'online';
CREATE INDEX offline_devices_by_node ON pop.devices (node_id, device_id) WHERE status = 'offline';
CREATE INDEX online_devices_by_node_connected
    ON pop.devices (node_id, (coalesce(connected_at, '-infinity')), device_id) WHERE status = 'online';
CREATE INDEX offline_devices_by_node_connected
    ON pop.devices (node_id, (coalesce(connected_at, '-infinity')), device_id) WHERE status = 'offline';
CREATE INDEX online_devices_by_location ON pop.devices (location, device_id) WHERE status = 'online';
CREATE INDEX offline_devices_by_location ON pop.devices (location, device_id) WHERE status = 'offline';
CREATE INDEX online_devices_by_location_connected
    ON pop.devices (location, (coalesce(connected_at, '-infinity')), device_id) WHERE status = 'online';
CREATE INDEX offline_devices_by_location_connected
    ON pop.devices (location, (coalesce(connected_at, '-infinity')), device_id) WHERE status = 'offline';

ALTER TABLE pop.device_tags DROP CONSTRAINT device_tags_pkey, ADD PRIMARY KEY (device_id, tag);
DROP INDEX pop.device_tags_by_connected;
CREATE INDEX online_device_tags ON pop.device_tags (tag, device_id) WHERE status = 'online';
CREATE INDEX offline_device_tags ON pop.device_tags (tag, device_id) WHERE status = 'offline';
CREATE INDEX online_device_tags_by_connected
    ON pop.device_tags (tag, connected_at, device_id) WHERE status = 'online';
CREATE INDEX offline_device_tags_by_connected
    ON pop.device_tags (tag, connected_at, device_id) WHERE status = 'offline';

DROP INDEX pop.busy_devices_by_node, pop.busy_devices_by_location;
CREATE INDEX online_busy_devices_by_node
    ON pop.busy_devices (node_id, active_conns, device_id) WHERE status = 'online';
CREATE INDEX offline_busy_devices_by_node
    ON pop.busy_devices (node_id, active_conns, device_id) WHERE status = 'offline';
CREATE INDEX online_busy_devices_by_location
    ON pop.busy_devices (location, active_conns, device_id) WHERE status = 'online';
CREATE INDEX offline_busy_devices_by_location
    ON pop.busy_devices (location, active_conns, device_id) WHERE status = 'offline';

ALTER TABLE pop.busy_tags DROP CONSTRAINT busy_tags_pkey, ADD PRIMARY KEY (device_id, tag);
CREATE INDEX online_busy_tags ON pop.busy_tags (tag, active_conns, device_id) WHERE status = 'online';
CREATE INDEX offline_busy_tags ON pop.busy_tags (tag, active_conns, device_id) WHERE status = 'offline';

-- In the order of the lists. The ended sessions of a node are too many for a list of them to end early.
DROP INDEX pop.device_sessions_open;
CREATE INDEX device_sessions_open
    ON pop.device_sessions (node_id, started_at, session_id) WHERE ended_at IS NULL;
