-- Rooms.

-- The first few of a room's members, to name it after, whatever the number of the others.
CREATE INDEX room_members_present ON room_members (room_nid, pos, user_nid) WHERE membership IN ('join', 'invite');

-- Requests to different endpoints are different though they carry the same transaction id. `endpoint` is a hash of what
-- the path says besides the room.
ALTER TABLE event_transactions ADD COLUMN endpoint integer NOT NULL DEFAULT -2147483648;
ALTER TABLE event_transactions ALTER COLUMN endpoint DROP DEFAULT;
ALTER TABLE event_transactions DROP CONSTRAINT event_transactions_pkey;
ALTER TABLE event_transactions ADD PRIMARY KEY (user_nid, device_id, room_nid, endpoint, txn_id);
