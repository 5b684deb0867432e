-- E-mail, third-party identifiers and second factors.

-- Mails that must still go out. The row is written in the transaction of its cause, and gone once the mail is.
CREATE TABLE outgoing_mail (
    mail_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipient       text NOT NULL,
    template        text NOT NULL,
    language        text NOT NULL,
    fields          text NOT NULL,            -- JSON: what the template is filled with
    created_ts      bigint NOT NULL,
    expires_ts      bigint NOT NULL,          -- nobody is served by the mail after that
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_ts bigint NOT NULL           -- who tries it sets this ahead, so that no one else does meanwhile
);
CREATE INDEX outgoing_mail_due ON outgoing_mail (next_attempt_ts);

-- Someone is proving that an e-mail address or a telephone number is theirs.
CREATE TABLE threepid_validations (
    sid          text PRIMARY KEY,
    secret_hash  bytea NOT NULL,              -- SHA-256 of the client_secret
    purpose      text NOT NULL,               -- register, password or add: worth nothing for another
    medium       text NOT NULL,
    address      text NOT NULL,
    send_attempt bigint NOT NULL,
    token_hashes bytea[] NOT NULL,            -- of what was sent; none once one of them has come back
    failures     integer NOT NULL DEFAULT 0,
    next_link    text,
    created_ts   bigint NOT NULL,
    expires_ts   bigint NOT NULL,
    validated_ts bigint,
    UNIQUE (secret_hash, purpose, medium, address)
);
CREATE INDEX threepid_validations_age ON threepid_validations (expires_ts);

-- The e-mail addresses and telephone numbers of accounts. Nobody shares one.
CREATE TABLE account_threepids (
    medium       text NOT NULL,
    address      text NOT NULL,
    user_nid     bigint NOT NULL REFERENCES users,
    validated_ts bigint NOT NULL,
    added_ts     bigint NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX account_threepids_user ON account_threepids (user_nid);

-- What was bound at identity servers through this one, so that it can be unbound.
CREATE TABLE bound_threepids (
    user_nid  bigint NOT NULL REFERENCES users,
    medium    text NOT NULL,
    address   text NOT NULL,
    id_server text NOT NULL,
    PRIMARY KEY (user_nid, medium, address, id_server)
);

-- Links that let their holder set another password.
CREATE TABLE recovery_tokens (
    token_hash bytea PRIMARY KEY,             -- SHA-256
    user_nid   bigint NOT NULL REFERENCES users,
    created_ts bigint NOT NULL,
    expires_ts bigint NOT NULL
);
CREATE INDEX recovery_tokens_user ON recovery_tokens (user_nid);
CREATE INDEX recovery_tokens_age ON recovery_tokens (expires_ts);

-- Authenticator apps (TOTP).
CREATE TABLE second_factors (
    user_nid        bigint PRIMARY KEY REFERENCES users,
    secret          bytea,                    -- encrypted; NULL: none is set up
    confirmed_ts    bigint,
    last_step       bigint NOT NULL DEFAULT 0,-- of the last code that was used: no older one counts again
    pending_secret  bytea,                    -- encrypted; shown, and not yet confirmed by a code
    pending_ts      bigint,
    tries_full_ts   bigint NOT NULL DEFAULT 0 -- when the bucket of wrong codes is full again
);
CREATE TABLE backup_codes (
    user_nid  bigint NOT NULL REFERENCES second_factors ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    PRIMARY KEY (user_nid, code_hash)
);
