-- State that costs less: to store, and to read without its members.

-- A snapshot says on which level its delta is (see storage/state_snapshots; -1: a whole state), from which the rest
-- follows by walking down the bases. `delta` has twelve bytes for each key: state_key_nid and event_nid, each of six bytes,
-- the most significant first. An event nid of 0 says that the base's entry is gone.
ALTER TABLE state_snapshots ADD COLUMN level smallint, ADD COLUMN delta bytea;
UPDATE state_snapshots SET
    level = CASE WHEN lengths[3] > 0 THEN 2 WHEN lengths[2] > 0 THEN 1 WHEN lengths[1] > 0 THEN 0 ELSE -1 END,
    delta = COALESCE((
        SELECT string_agg(substring(int8send(d.key) FROM 3) || substring(int8send(d.nid) FROM 3), '' ORDER BY d.place)
          FROM unnest(state_key_nids, event_nids) WITH ORDINALITY AS d (key, nid, place)), '');
ALTER TABLE state_snapshots
    ALTER COLUMN level SET NOT NULL, ALTER COLUMN delta SET NOT NULL,
    DROP COLUMN room_nid, DROP COLUMN heads, DROP COLUMN lengths, DROP COLUMN state_key_nids, DROP COLUMN event_nids;

-- The keys that a room has or had in its state, but for members. There are few, however many members there are.
CREATE TABLE room_plain_keys (
    room_nid      bigint NOT NULL REFERENCES rooms,
    state_key_nid bigint NOT NULL REFERENCES state_keys,
    PRIMARY KEY (room_nid, state_key_nid)
);
INSERT INTO room_plain_keys
SELECT DISTINCT s.room_nid, s.state_key_nid FROM room_state s JOIN state_keys k USING (state_key_nid)
 WHERE k.type <> 'm.room.member';

CREATE INDEX room_members_invited ON room_members (room_nid) WHERE membership = 'invite';
