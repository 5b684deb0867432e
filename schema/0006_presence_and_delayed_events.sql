-- What users of this server do over time: who is online, what they want sent later, whom they prove to be elsewhere.

-- Presence as it was when it was last written down, a minute ago or so: the truth is in memory. It lets a server that
-- starts again tell its clients who has gone meanwhile. Users of other servers stand here too.
CREATE TABLE presence (
    user_nid       bigint PRIMARY KEY REFERENCES users,
    presence       text NOT NULL,         -- online, unavailable or offline
    status_msg     text,
    last_active_ts bigint NOT NULL
);

-- Events to be sent at `send_ts`. Once sent, cancelled or refused (`finalised_ts`) they are kept for their owner to
-- look up for a while.
CREATE TABLE delayed_events (
    delay_id         text PRIMARY KEY,
    user_nid         bigint NOT NULL REFERENCES users,
    device_id        text NOT NULL,
    room_nid         bigint NOT NULL REFERENCES rooms,
    txn_id           text,                -- that of the request; requests that set state have none
    type             text NOT NULL,
    state_key        text,
    content          bytea NOT NULL,
    origin_server_ts bigint,              -- NULL: the time of sending
    rate_limited     boolean NOT NULL,
    delay_ms         bigint NOT NULL,
    scheduled_ts     bigint NOT NULL,     -- when the delay began, or began anew
    send_ts          bigint NOT NULL,
    claimed_until    bigint NOT NULL DEFAULT 0,  -- somebody sends it at this moment; a claim that runs out is void
    event_id         text,                -- set once it was sent
    error            bytea,               -- set if it could not be: a standard error response
    finalised_ts     bigint,
    UNIQUE (user_nid, device_id, room_nid, txn_id)
);
CREATE INDEX delayed_events_due ON delayed_events (send_ts) WHERE finalised_ts IS NULL;
CREATE INDEX delayed_events_user ON delayed_events (user_nid, send_ts) WHERE finalised_ts IS NULL;
CREATE INDEX delayed_events_finalised ON delayed_events (user_nid, finalised_ts) WHERE finalised_ts IS NOT NULL;

-- Tokens with which a user proves to another service who they are, and nothing else.
CREATE TABLE openid_tokens (
    token_hash bytea PRIMARY KEY,         -- SHA-256; the token itself is never stored
    user_nid   bigint NOT NULL REFERENCES users,
    expires_ts bigint NOT NULL
);
CREATE INDEX openid_tokens_expiry ON openid_tokens (expires_ts);
