-- Rooms.

-- The first few of a room's members, to name it after, whatever the number of the others.
CREATE INDEX room_members_present ON room_members (room_nid, pos, user_nid) WHERE membership IN ('join', 'invite');
