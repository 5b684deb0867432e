-- Sessions of browsers at the server's own pages. Only the hash of what the cookie holds is kept.
CREATE TABLE web_sessions (
    token_hash       bytea PRIMARY KEY,
    user_nid         bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
    created_ts       bigint NOT NULL,
    last_seen_ts     bigint NOT NULL,
    -- When the user last proved who they are; NULL while a second factor is due, which counts as not signed in.
    authenticated_ts bigint,
    -- Whether the cookie outlives the closing of the browser.
    keep             boolean NOT NULL DEFAULT false
);
CREATE INDEX web_sessions_by_user ON web_sessions (user_nid);
CREATE INDEX web_sessions_by_last_seen ON web_sessions (last_seen_ts);

-- Who may replace their cross-signing keys without a further proof, and until when (ms).
CREATE TABLE cross_signing_resets (
    user_nid   bigint PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
    expires_ts bigint NOT NULL
);
