-- What a room shows of itself to those outside, the directory of published rooms, and what users report.

-- One row for each room whose state is known, kept by every append that changes one of these; a message changes none.
-- `search` is what the directory's search looks through, case-folded. A room is in the directory of this server if it is
-- `published`.
CREATE TABLE room_summaries (
    room_nid         bigint PRIMARY KEY REFERENCES rooms,
    joined_members   bigint NOT NULL DEFAULT 0,
    published        boolean NOT NULL DEFAULT false,
    name             text,
    topic            text,
    canonical_alias  text,
    avatar_url       text,
    join_rule        text NOT NULL DEFAULT 'invite',
    world_readable   boolean NOT NULL DEFAULT false,
    guest_can_join   boolean NOT NULL DEFAULT false,
    room_type        text,
    encryption       text,
    allowed_room_ids text[] NOT NULL DEFAULT '{}',
    search           text NOT NULL DEFAULT ''
);
CREATE INDEX room_summaries_directory ON room_summaries (joined_members, room_nid) WHERE published;

INSERT INTO room_summaries (room_nid, joined_members, published)
SELECT room_nid, (SELECT count(*) FROM room_members m WHERE m.room_nid = r.room_nid AND m.membership = 'join'), published
  FROM rooms r;

-- PostgreSQL can't take a string with U+0000 out of JSON: rooms with one show less until that state changes.
WITH shown AS (
    SELECT s.room_nid, k.type, convert_from(e.json, 'UTF8')::json -> 'content' AS content
      FROM room_state s JOIN state_keys k USING (state_key_nid) JOIN events e USING (event_nid)
     WHERE s.to_pos = 9223372036854775807 AND k.state_key = '' AND k.type LIKE 'm.room.%'
       AND position('\u0000' IN convert_from(e.json, 'UTF8')) = 0
)
UPDATE room_summaries r SET
    name = (SELECT content ->> 'name' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.name'),
    topic = (SELECT content ->> 'topic' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.topic'),
    canonical_alias = (
        SELECT content ->> 'alias' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.canonical_alias'),
    avatar_url = (SELECT content ->> 'url' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.avatar'),
    join_rule = COALESCE(
        (SELECT content ->> 'join_rule' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.join_rules'), 'invite'),
    world_readable = EXISTS (
        SELECT FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.history_visibility'
           AND content ->> 'history_visibility' = 'world_readable'),
    guest_can_join = EXISTS (
        SELECT FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.guest_access'
           AND content ->> 'guest_access' = 'can_join'),
    room_type = (SELECT content ->> 'type' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.create'),
    encryption = (SELECT content ->> 'algorithm' FROM shown WHERE room_nid = r.room_nid AND type = 'm.room.encryption'),
    allowed_room_ids = ARRAY(
        SELECT rule ->> 'room_id' FROM shown, json_array_elements(
            CASE json_typeof(content -> 'allow') WHEN 'array' THEN content -> 'allow' ELSE '[]' END) AS rule
         WHERE room_nid = r.room_nid AND type = 'm.room.join_rules' AND json_typeof(rule) = 'object'
           AND rule ->> 'room_id' IS NOT NULL);
UPDATE room_summaries SET search = lower(concat_ws(E'\n', name, topic, canonical_alias));

ALTER TABLE rooms DROP COLUMN published;

-- Rooms that application services publish in the lists of their networks.
CREATE TABLE network_rooms (
    instance_id text NOT NULL,              -- the application service's id, "|", its name for the network
    room_nid    bigint NOT NULL REFERENCES rooms,
    PRIMARY KEY (instance_id, room_nid)
);
CREATE INDEX network_rooms_room ON network_rooms (room_nid);

-- Where a walk through a space went on to, for the next page of it.
CREATE TABLE hierarchy_pages (
    token      text PRIMARY KEY,
    user_nid   bigint NOT NULL REFERENCES users,
    request    text NOT NULL,               -- the room and the parameters that the walk was begun with
    walk       bytea NOT NULL,              -- JSON: rooms still to come, rooms that have been
    created_ts bigint NOT NULL
);
CREATE INDEX hierarchy_pages_age ON hierarchy_pages (created_ts);
CREATE INDEX hierarchy_pages_user ON hierarchy_pages (user_nid, created_ts);

-- The event next to a moment.
CREATE INDEX events_time ON events (room_nid, origin_server_ts) WHERE ord IS NOT NULL;

-- What users have reported to the administrators of this server.
CREATE TABLE reports (
    report_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,             -- room, event or user
    reporter_nid bigint NOT NULL REFERENCES users,
    room_id      text,
    event_id     text,
    user_id      text,
    reason       text,
    score        integer,
    created_ts   bigint NOT NULL
);

-- Profile fields other than displayname and avatar_url.
CREATE TABLE profile_fields (
    user_nid bigint NOT NULL REFERENCES accounts,
    name     text NOT NULL,
    value    bytea NOT NULL,                -- JSON
    PRIMARY KEY (user_nid, name)
);
