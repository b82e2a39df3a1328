-- Purpose: drains that tell the whole truth, and nodes that tell how much more they can take on.
-- Breaking: no

ALTER TABLE pop.drains
    -- Ended otherwise than by moving.
    ADD COLUMN devices_lost bigint NOT NULL DEFAULT 0,
    -- What people are told beside the figures, as it was told: estimates, conns that hold it up, targets.
    ADD COLUMN details json NOT NULL DEFAULT '{}';

ALTER TABLE pop.nodes
    -- How long devices that came in the last seconds waited for their answer: all but one in a hundred less.
    ADD COLUMN registration_ms double precision NOT NULL DEFAULT 0,
    -- How late its control loop was at worst in the last seconds.
    ADD COLUMN lag_ms double precision NOT NULL DEFAULT 0;
