-- Registration, and limits that survive a restart.

-- User-interactive authentication: what has been proved, and which sessions have been used up. The id of a session says
-- by itself what it is for, so that only those take a row in which something has happened. `key` is a hash of the id,
-- `params` a keyed hash of the parameters that something was proved for.
DROP TABLE uia_sessions;
CREATE TABLE uia_sessions (
    key        bytea PRIMARY KEY,
    params     bytea NOT NULL,
    completed  jsonb NOT NULL,
    used       boolean NOT NULL DEFAULT false,
    created_ts bigint NOT NULL
);
CREATE INDEX uia_sessions_created ON uia_sessions (created_ts);

-- Buckets of limits that all processes share: `full_ts` is when (in ms) the bucket will be full again. Who or what is
-- counted stands in `key` as a hash: people type passwords where names belong.
CREATE TABLE rate_limits (
    key     bytea PRIMARY KEY,
    full_ts double precision NOT NULL
);
CREATE INDEX rate_limits_full ON rate_limits (full_ts);

-- Addresses from which somebody has logged in: attacks on the account from elsewhere don't count there.
CREATE TABLE login_addresses (
    user_nid bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
    address  text NOT NULL,
    last_ts  bigint NOT NULL,
    PRIMARY KEY (user_nid, address)
);

-- Which edition of which document who has accepted.
CREATE TABLE accepted_terms (
    user_nid    bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
    policy      text NOT NULL,
    version     text NOT NULL,
    accepted_ts bigint NOT NULL,
    PRIMARY KEY (user_nid, policy, version)
);

-- Nonces of registrations with the shared secret that have been used. Those that have expired count no more anyway.
CREATE TABLE used_registration_nonces (
    nonce_hash bytea PRIMARY KEY,
    expires_ts bigint NOT NULL
);
CREATE INDEX used_registration_nonces_expires ON used_registration_nonces (expires_ts);
