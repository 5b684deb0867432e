-- What notifies whom.
--
-- A message notifies almost all members of its room alike: those whose push rules say of it what the predefined ones do.
-- That is one row, in `room_notifications`, however many they are. Whoever it is different for has a row of their own
-- in `user_notifications` that says by how much, and whoever has silenced the room has a span in `quiet_spans`, from the
-- first event that was silenced to the first that is not. What a user's counts are follows from these, from where the
-- user has read to, and from when the user joined.

-- What users have changed of their push rules. A row that was made stays, so that its `pos` tells of every change.
CREATE TABLE push_rules (
    user_nid bigint PRIMARY KEY REFERENCES users,
    rules    bytea NOT NULL,              -- JSON, as protocol/push_rules has it
    pos      bigint NOT NULL
);
CREATE INDEX push_rules_stream ON push_rules (pos);
CREATE INDEX account_data_ignored_users ON account_data (pos) WHERE type = 'm.ignored_user_list';

-- What an event does to members without a row of their own for it. `notifies` and the like are running totals of the
-- room and, with `thread_`, of the thread: a count between two places is a difference, minus what was withdrawn (by a
-- redaction) between them.
CREATE TABLE room_notifications (
    room_nid          bigint NOT NULL REFERENCES rooms,
    ord               bigint NOT NULL,    -- the event's place
    event_nid         bigint NOT NULL,
    thread_id         text NOT NULL,      -- the event id of the thread's root, or 'main'
    notify            boolean NOT NULL,
    highlight         boolean NOT NULL,
    unread            boolean NOT NULL,   -- something to read, whatever push rules say
    withdrawn         boolean NOT NULL DEFAULT false,
    notifies          bigint NOT NULL,
    highlights        bigint NOT NULL,
    unreads           bigint NOT NULL,
    thread_notifies   bigint NOT NULL,
    thread_highlights bigint NOT NULL,
    thread_unreads    bigint NOT NULL,
    PRIMARY KEY (room_nid, ord)
);
CREATE INDEX room_notifications_thread ON room_notifications (room_nid, thread_id, ord);
CREATE INDEX room_notifications_withdrawn ON room_notifications (room_nid, ord) WHERE withdrawn;
CREATE INDEX room_notifications_highlights ON room_notifications (room_nid, ord) WHERE highlight AND NOT withdrawn;
CREATE INDEX room_notifications_stream ON room_notifications (ord) WHERE notify;

-- What an event does to one user, where that is not what the two tables around this one say. `…_diff` is by how much
-- the user's counts differ for it.
CREATE TABLE user_notifications (
    user_nid       bigint NOT NULL REFERENCES users,
    room_nid       bigint NOT NULL REFERENCES rooms,
    ord            bigint NOT NULL,
    event_nid      bigint NOT NULL,
    thread_id      text NOT NULL,
    notify         boolean NOT NULL,
    highlight      boolean NOT NULL,
    notify_diff    smallint NOT NULL,
    highlight_diff smallint NOT NULL,
    unread_diff    smallint NOT NULL,
    PRIMARY KEY (user_nid, room_nid, ord)
);
CREATE INDEX user_notifications_event ON user_notifications (room_nid, ord);
CREATE INDEX user_notifications_stream ON user_notifications (ord) WHERE notify;

-- From `from_ord` until before `to_ord`, events that notify others do not notify this user.
CREATE TABLE quiet_spans (
    user_nid bigint NOT NULL REFERENCES users,
    room_nid bigint NOT NULL REFERENCES rooms,
    from_ord bigint NOT NULL,
    to_ord   bigint NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (user_nid, room_nid, from_ord)
);

-- Where users have read to without a receipt: by joining (all threads: '') and by saying something in a thread.
CREATE TABLE read_marks (
    user_nid  bigint NOT NULL REFERENCES users,
    room_nid  bigint NOT NULL REFERENCES rooms,
    thread_id text NOT NULL,
    ord       bigint NOT NULL,
    PRIMARY KEY (user_nid, room_nid, thread_id)
) WITH (fillfactor = 80);

-- The threads in which anyone was ever notified.
CREATE TABLE notified_threads (
    room_nid  bigint NOT NULL REFERENCES rooms,
    thread_id text NOT NULL,
    last_ord  bigint NOT NULL,
    PRIMARY KEY (room_nid, thread_id)
);
CREATE INDEX notified_threads_last ON notified_threads (room_nid, last_ord);
