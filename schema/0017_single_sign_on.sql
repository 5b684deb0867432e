-- Who is who at the providers of single sign-on. The subject is for ever; names and addresses there are not.
CREATE TABLE external_ids (
    provider_id   text NOT NULL,
    subject       text NOT NULL,
    user_nid      bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
    shown_as      text NOT NULL,  -- so that people recognise it: an address or a name there
    linked_ts     bigint NOT NULL,
    PRIMARY KEY (provider_id, subject)
);
CREATE INDEX external_ids_by_user ON external_ids (user_nid);

-- Sign-ins under way: people who are at a provider and will come back once, in the same browser.
CREATE TABLE single_sign_on_logins (
    state_hash    bytea PRIMARY KEY,
    provider_id   text NOT NULL,
    browser       bytea NOT NULL,
    nonce         text NOT NULL,
    code_verifier text NOT NULL,
    link_to       bigint REFERENCES accounts ON DELETE CASCADE,  -- who adds this way to sign in to their account
    continue_to   text NOT NULL,
    expires_ts    bigint NOT NULL
);
CREATE INDEX single_sign_on_logins_expire ON single_sign_on_logins (expires_ts);

-- People who have proved who they are there and choose a user name here.
CREATE TABLE single_sign_on_newcomers (
    browser     bytea PRIMARY KEY,
    provider_id text NOT NULL,
    identity    jsonb NOT NULL,
    continue_to text NOT NULL,
    expires_ts  bigint NOT NULL
);
CREATE INDEX single_sign_on_newcomers_expire ON single_sign_on_newcomers (expires_ts);

-- Which sessions of browsers here hang on which session there, for when it ends.
CREATE TABLE single_sign_on_sessions (
    token_hash  bytea PRIMARY KEY REFERENCES web_sessions ON UPDATE CASCADE ON DELETE CASCADE,
    provider_id text NOT NULL,
    subject     text NOT NULL,
    session_id  text NOT NULL  -- "" where the provider names none
);
CREATE INDEX single_sign_on_sessions_by_subject ON single_sign_on_sessions (provider_id, subject);

-- Logout tokens that have been used.
CREATE TABLE used_logout_tokens (
    token_hash bytea PRIMARY KEY,
    expires_ts bigint NOT NULL
);
