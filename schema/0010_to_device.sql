-- What devices say to each other through us, and whose devices and keys changed when.

-- Messages to a device, until its client has shown by a sync token that it has them.
CREATE TABLE to_device_messages (
    user_nid  bigint NOT NULL,
    device_id text NOT NULL,
    pos       bigint NOT NULL,
    message   bytea NOT NULL,             -- JSON as /sync shows it
    PRIMARY KEY (user_nid, device_id, pos),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Requests that were carried out: one that is repeated does nothing.
CREATE TABLE to_device_transactions (
    user_nid   bigint NOT NULL REFERENCES users,
    device_id  text NOT NULL,             -- '' for an application service that names none
    type       text NOT NULL,
    txn_id     text NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id, type, txn_id)
);
CREATE INDEX to_device_transactions_age ON to_device_transactions (created_ts);

-- The same for m.direct_to_device EDUs of other servers.
CREATE TABLE received_to_device (
    origin     text NOT NULL,
    message_id text NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (origin, message_id)
);
CREATE INDEX received_to_device_age ON received_to_device (created_ts);

-- When anything about a user's devices or cross-signing keys changed last.
CREATE TABLE device_list_changes (
    user_nid  bigint PRIMARY KEY REFERENCES users,
    pos       bigint NOT NULL,
    stream_id bigint                      -- of the last m.device_list_update; NULL: there was none, or not one of ours
);
CREATE INDEX device_list_changes_stream ON device_list_changes (pos);

-- EDUs that must not get lost, until their destination has had them.
CREATE TABLE outgoing_edus (
    destination text NOT NULL,
    pos         bigint NOT NULL,
    edu_type    text NOT NULL,
    content     bytea NOT NULL,           -- JSON; see storage/outgoing_edus.py
    PRIMARY KEY (destination, pos)
);
CREATE INDEX outgoing_edus_stream ON outgoing_edus (pos);

-- What is known of the devices of users of other servers. It holds while their server sends us what changes, which it
-- does for as long as we share a room with them.
CREATE TABLE remote_device_lists (
    user_nid         bigint PRIMARY KEY REFERENCES users,
    as_of            bigint NOT NULL,     -- our position before we asked
    stream_ids       bigint[] NOT NULL,   -- of the answer, and of the updates since
    stale            boolean NOT NULL DEFAULT false,
    master_key       bytea,               -- JSON
    self_signing_key bytea                -- JSON
);
CREATE TABLE remote_devices (
    user_nid     bigint NOT NULL REFERENCES remote_device_lists ON DELETE CASCADE,
    device_id    text NOT NULL,
    display_name text,
    keys         bytea,                   -- JSON; NULL: it has none
    PRIMARY KEY (user_nid, device_id)
);
