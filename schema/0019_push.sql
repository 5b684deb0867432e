-- Push: whom to push to, and what is still to be pushed.

-- Where a user wants notifications to be sent. A pusher goes with the device that made it.
CREATE TABLE pushers (
    pusher_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_nid            bigint NOT NULL REFERENCES users,
    device_id           text,             -- null: an application service's
    app_id              text NOT NULL,
    pushkey             text NOT NULL,
    kind                text NOT NULL,
    app_display_name    text NOT NULL,
    device_display_name text NOT NULL,
    profile_tag         text,
    lang                text NOT NULL,
    data                bytea NOT NULL,   -- JSON, as the client gave it
    enabled             boolean NOT NULL,
    ack_token           text,             -- Web Push: what the client must say that has been pushed to it; null: it has
    ack_expires_ts      bigint NOT NULL DEFAULT 0,
    ack_due             boolean NOT NULL DEFAULT false,  -- it is still to be pushed
    set_ts              bigint NOT NULL,  -- ms; when the client last said so
    pos                 bigint NOT NULL,  -- … and at which position
    after_pos           bigint NOT NULL,  -- events up to here are none of its business
    badge               bigint,           -- the number of unread messages that it was told last; null: none yet
    changed_pos         bigint NOT NULL DEFAULT 0,       -- that number may have changed there
    told_pos            bigint NOT NULL DEFAULT 0,       -- … and changes up to there were told
    failures            integer NOT NULL DEFAULT 0,      -- in a row
    retry_at_ts         bigint NOT NULL DEFAULT 0,       -- ms; before, it is left alone
    UNIQUE (user_nid, app_id, pushkey),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX pushers_key ON pushers (app_id, pushkey);
CREATE INDEX pushers_device ON pushers (user_nid, device_id);
CREATE INDEX pushers_stream ON pushers (pos);
CREATE INDEX pushers_badge_due ON pushers (pusher_id) WHERE changed_pos > told_pos;

-- The events that a pusher has still to send. A row goes when the other side has taken it.
CREATE TABLE push_queue (
    pusher_id  bigint NOT NULL REFERENCES pushers ON DELETE CASCADE,
    event_nid  bigint NOT NULL,
    room_nid   bigint NOT NULL REFERENCES rooms,
    ord        bigint NOT NULL,
    queued_ts  bigint NOT NULL,           -- ms
    PRIMARY KEY (pusher_id, ord, event_nid)
);
CREATE INDEX push_queue_room ON push_queue (room_nid);

-- Who has read something, for the sender to tell their devices.
CREATE INDEX receipts_read ON receipts (pos) WHERE receipt_type IN ('m.read', 'm.read.private');

-- What was before there were pushers is pushed to nobody.
INSERT INTO stream_readers (reader, pos)
SELECT 'push', CASE WHEN is_called THEN last_value ELSE 0 END FROM positions;
