-- Events that went between this server and another by send_join, send_leave or send_knock, and not in a transaction.
-- `server` has such an event already. One of its users' is ours to pass on to the other servers of the room; one of our
-- users' is passed on by that server. The federation sender deletes the rows as it comes by.
CREATE TABLE handed_over_events (
    event_nid bigint PRIMARY KEY,
    server    text NOT NULL
);
