-- Sessions that can be refreshed, OAuth 2.0, single-use login tokens and rendezvous sessions.

-- Applications that sign users in by OAuth 2.0 and have registered themselves. What `metadata` says is their own word.
CREATE TABLE oauth2_clients (
    client_id     text PRIMARY KEY,
    metadata      text NOT NULL,          -- JSON, as it was checked at registration
    metadata_hash bytea UNIQUE,           -- of public clients, so that equal ones share a row
    secret_hash   bytea,                  -- SHA-256; NULL: a public client
    created_ts    bigint NOT NULL,
    used_ts       bigint NOT NULL
);
CREATE INDEX oauth2_clients_used ON oauth2_clients (used_ts);

-- What the tokens of a device were given for, where they can be refreshed. Every refresh token begins with the same
-- secret, the family: one that is of the family and no longer in refresh_tokens has been used before.
CREATE TABLE sessions (
    user_nid    bigint NOT NULL,
    device_id   text NOT NULL,
    family_hash bytea NOT NULL UNIQUE,
    client_id   text REFERENCES oauth2_clients,  -- NULL: the session was not made by OAuth 2.0
    scope       text,
    created_ts  bigint NOT NULL,
    PRIMARY KEY (user_nid, device_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX sessions_client ON sessions (client_id) WHERE client_id IS NOT NULL;

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,         -- SHA-256 of the whole token
    user_nid   bigint NOT NULL,
    device_id  text NOT NULL,
    pending    boolean NOT NULL,          -- nobody has used it, nor its access token, so its predecessor is still good
    created_ts bigint NOT NULL,
    expires_ts bigint,
    FOREIGN KEY (user_nid, device_id) REFERENCES sessions ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_nid, device_id);

-- Each access token that came with a refresh token goes with it.
ALTER TABLE access_tokens ADD COLUMN refresh_hash bytea REFERENCES refresh_tokens ON DELETE CASCADE;
CREATE INDEX access_tokens_refresh ON access_tokens (refresh_hash) WHERE refresh_hash IS NOT NULL;

CREATE TABLE oauth2_codes (
    code_hash      bytea PRIMARY KEY,
    client_id      text NOT NULL REFERENCES oauth2_clients ON DELETE CASCADE,
    user_nid       bigint NOT NULL REFERENCES users,
    redirect_uri   text NOT NULL,
    scope          text NOT NULL,
    device_id      text NOT NULL,
    code_challenge text NOT NULL,
    expires_ts     bigint NOT NULL,
    used           boolean NOT NULL DEFAULT false,
    family_hash    bytea                  -- of the session that it was exchanged for
);
CREATE INDEX oauth2_codes_client ON oauth2_codes (client_id);
CREATE INDEX oauth2_codes_expire ON oauth2_codes (expires_ts);

CREATE TABLE oauth2_device_grants (
    device_code_hash bytea PRIMARY KEY,
    user_code_hash   bytea NOT NULL UNIQUE,
    client_id        text NOT NULL REFERENCES oauth2_clients ON DELETE CASCADE,
    scope            text NOT NULL,
    device_id        text NOT NULL,
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'denied')),
    user_nid         bigint REFERENCES users,
    interval_ms      bigint NOT NULL,
    polled_ts        bigint,
    expires_ts       bigint NOT NULL
);
CREATE INDEX oauth2_device_grants_client ON oauth2_device_grants (client_id);
CREATE INDEX oauth2_device_grants_expire ON oauth2_device_grants (expires_ts);

-- Good for one login; see accounts/login_tokens.
CREATE TABLE login_tokens (
    token_hash bytea PRIMARY KEY,
    user_nid   bigint NOT NULL REFERENCES users,
    expires_ts bigint NOT NULL
);
CREATE INDEX login_tokens_expire ON login_tokens (expires_ts);

-- Places where two devices meet to sign one of them in.
CREATE TABLE rendezvous_sessions (
    rendezvous_id text PRIMARY KEY,
    data          bytea NOT NULL,
    content_type  text NOT NULL,
    version       bigint NOT NULL DEFAULT 1,  -- grows with every write
    changed_ts    bigint NOT NULL,
    expires_ts    bigint NOT NULL
);
CREATE INDEX rendezvous_sessions_expire ON rendezvous_sessions (expires_ts);
