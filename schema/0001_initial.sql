-- Rooms as event DAGs, their state, the accounts of this server, and what must still be sent to others.
--
-- Numbers inside, strings outside: rooms, users, events and state keys are known by a bigint ("nid") in every table that
-- grows with traffic; the strings stand once, here.
--
-- One sequence gives every position. A position says when something happened as this server saw it; a sync token is the
-- position up to which a client has been told. Event nids and snapshot nids are drawn from it too, for uniqueness only.

CREATE SEQUENCE positions AS bigint;

CREATE TABLE users (
    user_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id  text NOT NULL UNIQUE,
    server   text NOT NULL
);

CREATE TABLE rooms (
    room_nid     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id      text NOT NULL UNIQUE,
    room_version text NOT NULL,
    -- The head of the room. `head_version` grows with every append: a copy of the head in a process's memory is good
    -- while the numbers agree.
    head_version bigint NOT NULL DEFAULT 0,
    extremities  bigint[] NOT NULL DEFAULT '{}',
    depth        bigint NOT NULL DEFAULT 0,
    snapshot_nid bigint,
    published    boolean NOT NULL DEFAULT false,
    created_ts   bigint NOT NULL
) WITH (fillfactor = 50);

-- (event type, state_key) pairs.
CREATE TABLE state_keys (
    state_key_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type          text NOT NULL,
    state_key     text NOT NULL,
    UNIQUE (type, state_key)
);

CREATE TABLE events (
    event_nid        bigint PRIMARY KEY,
    event_id         text NOT NULL UNIQUE,
    room_nid         bigint NOT NULL REFERENCES rooms,
    -- The place in the room's timeline: position * 2^20 for events that sync tells of (`live`), a free number between
    -- or below for history that was fetched later. NULL: not in the timeline (outlier, rejected or soft-failed).
    ord              bigint,
    live             boolean NOT NULL,
    status           smallint NOT NULL,  -- 0 accepted, 1 soft-failed, 2 rejected, 3 outlier, 4 rejected outlier
    sender_nid       bigint NOT NULL REFERENCES users,
    type             text NOT NULL,
    state_key_nid    bigint REFERENCES state_keys,
    depth            bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    contains_url     boolean NOT NULL,
    snapshot_nid     bigint,             -- the state before the event; NULL for outliers
    auth_nids        bigint[] NOT NULL,
    redacted_by      bigint,             -- event_nid of the redaction; `json` is the redacted form then
    json             bytea NOT NULL      -- the PDU as canonical JSON
);
CREATE INDEX events_timeline ON events (room_nid, ord) WHERE ord IS NOT NULL;
CREATE INDEX events_depth ON events (room_nid, depth);

-- Events cited as prev_events that this server does not have: where the known history ends or has a gap.
CREATE TABLE missing_prev_events (
    room_nid      bigint NOT NULL REFERENCES rooms,
    prev_event_id text NOT NULL,
    event_nid     bigint NOT NULL,
    PRIMARY KEY (room_nid, prev_event_id, event_nid)
);

CREATE TABLE event_relations (
    event_nid    bigint PRIMARY KEY,
    room_nid     bigint NOT NULL REFERENCES rooms,
    relates_to   text NOT NULL,
    rel_type     text NOT NULL,
    key          text
);
CREATE INDEX event_relations_target ON event_relations (relates_to, rel_type);

-- Redactions by the id they name, so that one which arrives before its target still takes effect.
CREATE TABLE redactions (
    event_nid bigint PRIMARY KEY,
    room_nid  bigint NOT NULL REFERENCES rooms,
    redacts   text NOT NULL
);
CREATE INDEX redactions_target ON redactions (redacts);

-- The event that a device's request with this transaction id made.
CREATE TABLE event_transactions (
    user_nid   bigint NOT NULL REFERENCES users,
    device_id  text NOT NULL,
    room_nid   bigint NOT NULL,
    txn_id     text NOT NULL,
    event_nid  bigint NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id, room_nid, txn_id)
);
CREATE INDEX event_transactions_event ON event_transactions (event_nid);

-- A state, as what it changes of the state at `base_nid`. `heads` and `lengths` place it in the levels of deltas (see
-- storage/state_snapshots). An event nid of 0 says that the base's entry is gone.
CREATE TABLE state_snapshots (
    snapshot_nid   bigint PRIMARY KEY,
    room_nid       bigint NOT NULL REFERENCES rooms,
    base_nid       bigint,
    heads          bigint[] NOT NULL,
    lengths        smallint[] NOT NULL,
    state_key_nids bigint[] NOT NULL,
    event_nids     bigint[] NOT NULL
);

-- The state of a room as its members here were told it, over time: an entry held from `from_pos` until `to_pos`.
CREATE TABLE room_state (
    room_nid      bigint NOT NULL REFERENCES rooms,
    state_key_nid bigint NOT NULL REFERENCES state_keys,
    event_nid     bigint NOT NULL,
    from_pos      bigint NOT NULL,
    to_pos        bigint NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (room_nid, state_key_nid, from_pos)
);
CREATE UNIQUE INDEX room_state_current ON room_state (room_nid, state_key_nid) INCLUDE (event_nid)
    WHERE to_pos = 9223372036854775807;
CREATE INDEX room_state_from ON room_state (room_nid, from_pos);
CREATE INDEX room_state_to ON room_state (room_nid, to_pos) WHERE to_pos < 9223372036854775807;

CREATE TABLE room_members (
    room_nid       bigint NOT NULL REFERENCES rooms,
    user_nid       bigint NOT NULL REFERENCES users,
    membership     text NOT NULL,
    event_nid      bigint NOT NULL,
    pos            bigint NOT NULL,       -- when this membership began
    stripped_state bytea,                 -- invite_state or knock_state, a JSON array
    forgotten      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (room_nid, user_nid)
);
CREATE INDEX room_members_user ON room_members (user_nid, membership);

CREATE TABLE room_aliases (
    alias       text PRIMARY KEY,
    room_nid    bigint NOT NULL REFERENCES rooms,
    creator_nid bigint NOT NULL REFERENCES users,
    created_ts  bigint NOT NULL
);
CREATE INDEX room_aliases_room ON room_aliases (room_nid);

CREATE TABLE accounts (
    user_nid       bigint PRIMARY KEY REFERENCES users,
    password_hash  text,
    admin          boolean NOT NULL DEFAULT false,
    guest          boolean NOT NULL DEFAULT false,
    deactivated    boolean NOT NULL DEFAULT false,
    appservice_id  text,
    displayname    text,
    avatar_url     text,
    created_ts     bigint NOT NULL
);

CREATE TABLE devices (
    user_nid        bigint NOT NULL REFERENCES users,
    device_id       text NOT NULL,
    display_name    text,
    last_seen_ts    bigint,
    last_seen_ip    text,
    created_ts      bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id)
);

CREATE TABLE access_tokens (
    token_hash bytea PRIMARY KEY,         -- SHA-256; the token itself is never stored
    user_nid   bigint NOT NULL,
    device_id  text NOT NULL,
    created_ts bigint NOT NULL,
    expires_ts bigint,
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX access_tokens_device ON access_tokens (user_nid, device_id);

CREATE TABLE registration_tokens (
    token          text PRIMARY KEY,
    uses_allowed   integer,
    pending        integer NOT NULL DEFAULT 0,
    completed      integer NOT NULL DEFAULT 0,
    expires_ts     bigint
);

-- User-interactive authentication in progress. `operation` binds a session to what it was begun for.
CREATE TABLE uia_sessions (
    session_id text PRIMARY KEY,
    operation  text NOT NULL,
    params     bytea NOT NULL,
    completed  jsonb NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE filters (
    user_nid  bigint NOT NULL REFERENCES users,
    filter_id bigint NOT NULL,
    json      bytea NOT NULL,
    PRIMARY KEY (user_nid, filter_id)
);

CREATE TABLE account_data (
    user_nid bigint NOT NULL REFERENCES users,
    room_nid bigint NOT NULL DEFAULT 0,   -- 0: global
    type     text NOT NULL,
    content  bytea NOT NULL,
    pos      bigint NOT NULL,
    PRIMARY KEY (user_nid, room_nid, type)
);
CREATE INDEX account_data_stream ON account_data (user_nid, pos);

CREATE TABLE receipts (
    room_nid     bigint NOT NULL REFERENCES rooms,
    receipt_type text NOT NULL,
    user_nid     bigint NOT NULL REFERENCES users,
    thread_id    text NOT NULL DEFAULT '',
    event_id     text NOT NULL,
    data         bytea NOT NULL,
    pos          bigint NOT NULL,
    PRIMARY KEY (room_nid, receipt_type, user_nid, thread_id)
);
CREATE INDEX receipts_stream ON receipts (room_nid, pos);

CREATE TABLE server_keys (
    server         text NOT NULL,
    key_id         text NOT NULL,
    verify_key     text NOT NULL,         -- unpadded base64
    valid_until_ts bigint NOT NULL,
    expired_ts     bigint,                -- set for old_verify_keys
    fetched_ts     bigint NOT NULL,
    response       bytea NOT NULL,        -- the signed JSON it came in, for answering as a notary
    PRIMARY KEY (server, key_id)
);

-- Another server that events go to, and how that goes.
CREATE TABLE destinations (
    destination        text PRIMARY KEY,
    failing_since_ts   bigint,
    retry_at_ts        bigint NOT NULL DEFAULT 0,
    retry_interval_ms  bigint NOT NULL DEFAULT 0
);

-- What a destination has still to be sent: in this room, events from `first_pos` to `last_pos`.
CREATE TABLE destination_rooms (
    destination text NOT NULL,
    room_nid    bigint NOT NULL REFERENCES rooms,
    first_pos   bigint NOT NULL,
    last_pos    bigint NOT NULL,
    PRIMARY KEY (destination, room_nid)
);

-- How far each background reader of the stream has come.
CREATE TABLE stream_readers (
    reader text PRIMARY KEY,
    pos    bigint NOT NULL
);

-- Answers given to transactions of other servers, so that a repeated one is not processed twice.
CREATE TABLE received_transactions (
    origin     text NOT NULL,
    txn_id     text NOT NULL,
    response   bytea NOT NULL,
    created_ts bigint NOT NULL,
    PRIMARY KEY (origin, txn_id)
);

-- Locks a room for appending and draws `count` positions for it. Drawing after the lock keeps a room's positions in the
-- order of its appends, whichever process makes them.
CREATE FUNCTION lock_room(
    room bigint, count integer,
    OUT head_version bigint, OUT extremities bigint[], OUT depth bigint, OUT snapshot_nid bigint, OUT positions bigint[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT r.head_version, r.extremities, r.depth, r.snapshot_nid
      INTO head_version, extremities, depth, snapshot_nid
      FROM rooms r WHERE r.room_nid = room FOR UPDATE;
    positions := ARRAY(SELECT nextval('positions') FROM generate_series(1, count));
END
$$;
