-- Rooms.
SELECT;
