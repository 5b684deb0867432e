-- What administrators do: restrictions of accounts, the record of every action, work that outlives a request.

ALTER TABLE accounts
    -- spec: client-server-api/#account-locking
    ADD COLUMN locked boolean NOT NULL DEFAULT false,
    -- spec: client-server-api/#account-suspension
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    -- What the user sends is accepted and reaches nobody.
    ADD COLUMN shadow_banned boolean NOT NULL DEFAULT false,
    -- The user wanted to be forgotten: who was not in the room when the user said something sees it redacted.
    ADD COLUMN erased boolean NOT NULL DEFAULT false;

-- Who did what to whom. Append-only: a row, once committed, is neither changed nor deleted by anything that connects as
-- the server does.
CREATE TABLE audit_log (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A user id, or "command line (NAME)" with the name of the operating system's user.
    actor      text NOT NULL,
    -- A word with dots, such as user.lock.
    action     text NOT NULL,
    -- A user id, a room id, a token's beginning, the name of a server, the number of a report.
    target     text NOT NULL,
    -- A JSON object. Never a password or a token.
    details    jsonb NOT NULL,
    -- Where the request came from; NULL for a command.
    address    text,
    created_ts bigint NOT NULL
);
CREATE INDEX audit_log_target ON audit_log (target, audit_id);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_rows_stay BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_stays BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
-- In sessions that replay changes made elsewhere, too.
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_rows_stay;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_stays;

-- Work that takes longer than a request: what was begun is finished after a restart.
CREATE TABLE jobs (
    job_id        text PRIMARY KEY,
    kind          text NOT NULL,
    -- What it is about: a user id or a room id.
    target        text NOT NULL,
    -- JSON objects: what was asked for, and what has been done so far.
    params        jsonb NOT NULL,
    progress      jsonb NOT NULL DEFAULT '{}',
    -- scheduled, active, complete or failed
    status        text NOT NULL DEFAULT 'scheduled',
    error         text,
    created_ts    bigint NOT NULL,
    finished_ts   bigint,
    -- Whoever works on it says so again before this moment; after it the work is anyone's.
    claimed_until bigint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0
);
CREATE INDEX jobs_open ON jobs (claimed_until) WHERE finished_ts IS NULL;
CREATE INDEX jobs_target ON jobs (target, created_ts);
CREATE INDEX jobs_finished ON jobs (finished_ts) WHERE finished_ts IS NOT NULL;

-- Rooms that nobody here may join or be invited to. The server need not know the room.
CREATE TABLE blocked_rooms (
    room_id    text PRIMARY KEY,
    blocked_by text NOT NULL,
    created_ts bigint NOT NULL
);

-- Users whose requests are limited otherwise than the configuration says. Zero a second: not at all.
CREATE TABLE rate_limit_overrides (
    user_nid            bigint PRIMARY KEY REFERENCES users,
    messages_per_second integer NOT NULL,
    burst_count         integer NOT NULL
);

-- The list of accounts in the order that administrators are shown first.
CREATE INDEX accounts_created ON accounts (created_ts, user_nid);
CREATE INDEX accounts_admins ON accounts (user_nid) WHERE admin;
