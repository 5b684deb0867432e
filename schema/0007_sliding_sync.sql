-- Simplified sliding sync: rooms in the order of their activity, and what each connection of a client has been told.

-- The position of the newest event or change of state, and that of the newest event that counts as activity for people
-- (see rooms/activity.py). Written with the head, in the same UPDATE.
ALTER TABLE rooms ADD COLUMN active_pos bigint NOT NULL DEFAULT 0, ADD COLUMN bump_pos bigint NOT NULL DEFAULT 0;
UPDATE rooms r SET
    active_pos = GREATEST(
        0,
        (SELECT max(e.ord) >> 20 FROM events e WHERE e.room_nid = r.room_nid AND e.ord IS NOT NULL),
        (SELECT max(s.from_pos) FROM room_state s WHERE s.room_nid = r.room_nid)),
    bump_pos = COALESCE((
        SELECT e.ord >> 20 FROM events e
         WHERE e.room_nid = r.room_nid AND e.ord IS NOT NULL AND e.live AND e.type IN (
            'm.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker', 'm.call.invite', 'm.poll.start',
            'org.matrix.msc3381.poll.start', 'm.beacon_info', 'org.matrix.msc3672.beacon_info')
         ORDER BY e.ord DESC LIMIT 1), 0);

-- Whether the user was ever joined, and whether somebody else made the membership what it is: what a room list has to
-- know of rooms that the user is not in any more.
ALTER TABLE room_members ADD COLUMN joined_before boolean NOT NULL DEFAULT false,
                         ADD COLUMN put_out boolean NOT NULL DEFAULT false;
UPDATE room_members m SET
    joined_before = m.membership = 'join' OR EXISTS (
        SELECT 1 FROM read_marks k WHERE k.user_nid = m.user_nid AND k.room_nid = m.room_nid AND k.thread_id = ''),
    put_out = m.membership IN ('leave', 'ban') AND EXISTS (
        SELECT 1 FROM events e WHERE e.event_nid = m.event_nid AND e.sender_nid <> m.user_nid);

CREATE SEQUENCE sliding_versions;

-- One connection of a device, after two of its responses: the one that the client is known to have (`known_`, version 0:
-- none yet) and the last one, which it may or may not have (`issued_`). What that one said of rooms is not yet part of
-- `sliding_rooms`: it becomes so when the client shows that it has it, and is forgotten if it asks again.
CREATE TABLE sliding_connections (
    connection_nid    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_nid          bigint NOT NULL REFERENCES users,
    device_id         text,               -- NULL: an application service's user without one
    conn_id           text NOT NULL,
    used_ts           bigint NOT NULL,
    required_states   bytea NOT NULL,     -- JSON: number -> what was asked for, as rooms refer to it
    known_version     bigint NOT NULL DEFAULT 0,
    known_pos         bigint NOT NULL DEFAULT 0,
    known_typing      bigint NOT NULL DEFAULT 0,
    known_extensions  text[] NOT NULL DEFAULT '{}',
    issued_version    bigint NOT NULL DEFAULT nextval('sliding_versions'),
    issued_pos        bigint NOT NULL,
    issued_typing     bigint NOT NULL,
    issued_extensions text[] NOT NULL,
    issued_rooms      bytea NOT NULL,     -- JSON: the rows that it puts into sliding_rooms
    UNIQUE NULLS NOT DISTINCT (user_nid, device_id, conn_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);

-- What a connection has been told of a room.
CREATE TABLE sliding_rooms (
    connection_nid bigint NOT NULL REFERENCES sliding_connections ON DELETE CASCADE,
    room_nid       bigint NOT NULL REFERENCES rooms ON DELETE CASCADE,
    sent_pos       bigint NOT NULL,       -- everything up to there
    first_ord      bigint NOT NULL,       -- the timeline from here on, without a gap
    timeline_limit integer NOT NULL,      -- the largest that was asked for, and met
    required_state integer NOT NULL,      -- the state: a number of sliding_connections.required_states
    stripped       boolean NOT NULL,      -- no more than one who is not in the room may know
    is_dm          boolean NOT NULL,
    unread         boolean NOT NULL,      -- whether there were unread notifications
    receipts_pos   bigint,                -- receipts up to there; NULL: none yet
    data_pos       bigint,                -- account data up to there only; NULL: all
    PRIMARY KEY (connection_nid, room_nid)
);

-- Threads that users have subscribed to or unsubscribed from (a proposal, MSC4306). `pos` tells of the last change.
CREATE TABLE thread_subscriptions (
    user_nid   bigint NOT NULL REFERENCES users,
    room_nid   bigint NOT NULL REFERENCES rooms ON DELETE CASCADE,
    thread_id  text NOT NULL,             -- the event id of the root
    subscribed boolean NOT NULL,
    automatic  boolean NOT NULL,
    pos        bigint NOT NULL,
    PRIMARY KEY (user_nid, room_nid, thread_id)
);
CREATE INDEX thread_subscriptions_stream ON thread_subscriptions (user_nid, pos);
