-- Purpose: writes of devices' states and loads at ten thousand and more a second (docs/adr/0019).
-- Breaking: no

-- No two devices have one session. That the planner knows so matters more than the check: what it has sampled of
-- sessions is of before all devices came, and it would rather read every device than trust the index.
DROP INDEX pop.devices_by_session;
CREATE UNIQUE INDEX devices_by_session ON pop.devices (session_id);

-- A partition is made or dropped when nobody holds its table, and left for the next time otherwise: all who write or
-- read would have to wait behind the one who waits for, say, a report over 30 days.
CREATE OR REPLACE FUNCTION pop.make_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    parent text;
    day date;
    partition text;
    made integer := 0;
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('pop.make_partitions'));
    FOREACH parent IN ARRAY ARRAY['device_load', 'conns'] LOOP
        FOR offset_days IN -1..days_ahead LOOP
            day := today + offset_days;
            partition := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('pop.' || partition) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE pop.%I PARTITION OF pop.%I FOR VALUES FROM (%L) TO (%L)',
                    partition, parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
                made := made + 1;
            EXCEPTION
                WHEN check_violation THEN
                    -- The default partition holds rows of that day already: they stay there, and so does the day.
                    RAISE NOTICE 'pop.% stays in the default partition', partition;
                WHEN lock_not_available THEN
                    RAISE NOTICE 'pop.% is in use: no new partition now', parent;
                    EXIT;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE OR REPLACE FUNCTION pop.drop_expired(retention_days integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    parent text;
    partition text;
    dropped integer := 0;
    oldest date := (now() AT TIME ZONE 'UTC')::date - retention_days;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('pop.make_partitions'));
    FOREACH parent IN ARRAY ARRAY['device_load', 'conns'] LOOP
        FOR partition IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = ('pop.' || parent)::regclass
                AND c.relname ~ '_[0-9]{8}$' AND to_date(right(c.relname, 8), 'YYYYMMDD') < oldest
        LOOP
            BEGIN
                EXECUTE format('DROP TABLE pop.%I', partition);
                dropped := dropped + 1;
            EXCEPTION WHEN lock_not_available THEN
                RAISE NOTICE 'pop.% is in use: nothing of it is dropped now', parent;
                EXIT;
            END;
        END LOOP;
    END LOOP;
    DELETE FROM pop.device_load_default WHERE sampled_at < oldest;
    DELETE FROM pop.conns_default WHERE ended_at < oldest;
    DELETE FROM pop.node_load WHERE sampled_at < oldest;
    RETURN dropped;
END $$;

-- Nearly always it is the number of conns alone that changes, once a second of each device that has any.
CREATE OR REPLACE FUNCTION pop.device_conns_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.active_conns > 0 AND NEW.active_conns > 0
        AND OLD.status = NEW.status AND OLD.device_id = NEW.device_id AND OLD.tags = NEW.tags
        AND OLD.node_id IS NOT DISTINCT FROM NEW.node_id AND OLD.location = NEW.location
    THEN
        UPDATE pop.busy_devices SET active_conns = NEW.active_conns WHERE device_id = NEW.device_id;
        IF cardinality(NEW.tags) > 0 THEN
            UPDATE pop.busy_tags SET active_conns = NEW.active_conns WHERE device_id = NEW.device_id;
        END IF;
        RETURN NULL;
    END IF;
    IF OLD.active_conns > 0 THEN
        DELETE FROM pop.busy_tags WHERE device_id = OLD.device_id;
        IF TG_OP = 'DELETE' OR NEW.active_conns = 0 OR NEW.device_id <> OLD.device_id THEN
            DELETE FROM pop.busy_devices WHERE device_id = OLD.device_id;
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.active_conns > 0 THEN
        INSERT INTO pop.busy_devices AS b (device_id, status, node_id, location, active_conns)
            VALUES (NEW.device_id, NEW.status, NEW.node_id, NEW.location, NEW.active_conns)
            ON CONFLICT (device_id) DO UPDATE SET status = excluded.status, node_id = excluded.node_id,
                location = excluded.location, active_conns = excluded.active_conns;
        IF cardinality(NEW.tags) > 0 THEN
            INSERT INTO pop.busy_tags (tag, status, active_conns, device_id)
                SELECT DISTINCT unnest(NEW.tags), NEW.status, NEW.active_conns, NEW.device_id
                ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    RETURN NULL;
END $$;
