"""What can happen in rooms: sending, joining, receiving from other servers. Each action is one transaction.

Every event, from here or elsewhere, enters a room through `append.RoomAppend`, under the room's lock. `timeline` makes
events of our own users, `receive` checks those of other servers; the rest build on these two.
"""
