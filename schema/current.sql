-- The schema as all migrations make it, for reading. Written by `python -m homeserver.storage.migrate`.

CREATE FUNCTION public.audit_log_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION public.lock_room(room bigint, count integer, OUT head_version bigint, OUT extremities bigint[], OUT depth bigint, OUT snapshot_nid bigint, OUT positions bigint[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
BEGIN
    SELECT r.head_version, r.extremities, r.depth, r.snapshot_nid
      INTO head_version, extremities, depth, snapshot_nid
      FROM rooms r WHERE r.room_nid = room FOR UPDATE;
    positions := ARRAY(SELECT nextval('positions') FROM generate_series(1, count));
END
$$;

CREATE FUNCTION public.user_directory_account_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid) VALUES (NEW.user_nid);
    RETURN NULL;
END
$$;

CREATE FUNCTION public.user_directory_members_added() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid) SELECT DISTINCT user_nid FROM changed;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.user_directory_members_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid)
    SELECT DISTINCT c.user_nid FROM changed c JOIN before b ON b.room_nid = c.room_nid AND b.user_nid = c.user_nid
     WHERE c.event_nid <> b.event_nid;
    RETURN NULL;
END
$$;

CREATE TABLE public.accepted_terms (
    user_nid bigint NOT NULL,
    policy text NOT NULL,
    version text NOT NULL,
    accepted_ts bigint NOT NULL
);

CREATE TABLE public.access_tokens (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    created_ts bigint NOT NULL,
    expires_ts bigint,
    refresh_hash bytea
);

CREATE TABLE public.account_data (
    user_nid bigint NOT NULL,
    room_nid bigint DEFAULT 0 NOT NULL,
    type text NOT NULL,
    content bytea NOT NULL,
    pos bigint NOT NULL
);

CREATE TABLE public.account_threepids (
    medium text NOT NULL,
    address text NOT NULL,
    user_nid bigint NOT NULL,
    validated_ts bigint NOT NULL,
    added_ts bigint NOT NULL
);

CREATE TABLE public.accounts (
    user_nid bigint NOT NULL,
    password_hash text,
    admin boolean DEFAULT false NOT NULL,
    guest boolean DEFAULT false NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    appservice_id text,
    displayname text,
    avatar_url text,
    created_ts bigint NOT NULL,
    locked boolean DEFAULT false NOT NULL,
    suspended boolean DEFAULT false NOT NULL,
    shadow_banned boolean DEFAULT false NOT NULL,
    erased boolean DEFAULT false NOT NULL
);

CREATE TABLE public.audit_log (
    audit_id bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    details jsonb NOT NULL,
    address text,
    created_ts bigint NOT NULL
);

ALTER TABLE public.audit_log ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.backup_codes (
    user_nid bigint NOT NULL,
    code_hash bytea NOT NULL
);

CREATE TABLE public.blocked_rooms (
    room_id text NOT NULL,
    blocked_by text NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.bound_threepids (
    user_nid bigint NOT NULL,
    medium text NOT NULL,
    address text NOT NULL,
    id_server text NOT NULL
);

CREATE TABLE public.cross_signing_keys (
    user_nid bigint NOT NULL,
    usage text NOT NULL,
    public_key text NOT NULL,
    "json" bytea NOT NULL
);

CREATE TABLE public.cross_signing_resets (
    user_nid bigint NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.delayed_events (
    delay_id text NOT NULL,
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    room_nid bigint NOT NULL,
    txn_id text,
    type text NOT NULL,
    state_key text,
    content bytea NOT NULL,
    origin_server_ts bigint,
    rate_limited boolean NOT NULL,
    delay_ms bigint NOT NULL,
    scheduled_ts bigint NOT NULL,
    send_ts bigint NOT NULL,
    claimed_until bigint DEFAULT 0 NOT NULL,
    event_id text,
    error bytea,
    finalised_ts bigint
);

CREATE TABLE public.destination_rooms (
    destination text NOT NULL,
    room_nid bigint NOT NULL,
    first_pos bigint NOT NULL,
    last_pos bigint NOT NULL
);

CREATE TABLE public.destinations (
    destination text NOT NULL,
    failing_since_ts bigint,
    retry_at_ts bigint DEFAULT 0 NOT NULL,
    retry_interval_ms bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.device_keys (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    "json" bytea NOT NULL
);

CREATE TABLE public.device_list_changes (
    user_nid bigint NOT NULL,
    pos bigint NOT NULL,
    stream_id bigint
);

CREATE TABLE public.devices (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    display_name text,
    last_seen_ts bigint,
    last_seen_ip text,
    created_ts bigint NOT NULL
);

CREATE TABLE public.event_relations (
    event_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    relates_to text NOT NULL,
    rel_type text NOT NULL,
    key text,
    sender_nid bigint NOT NULL,
    ord bigint,
    replaces boolean NOT NULL
);

CREATE TABLE public.event_search (
    event_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    sender_nid bigint NOT NULL,
    ord bigint NOT NULL,
    key smallint NOT NULL,
    text text NOT NULL,
    terms tsvector NOT NULL
);

CREATE TABLE public.event_transactions (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    room_nid bigint NOT NULL,
    txn_id text NOT NULL,
    event_nid bigint NOT NULL,
    created_ts bigint NOT NULL,
    endpoint integer NOT NULL
);

CREATE TABLE public.events (
    event_nid bigint NOT NULL,
    event_id text NOT NULL,
    room_nid bigint NOT NULL,
    ord bigint,
    live boolean NOT NULL,
    status smallint NOT NULL,
    sender_nid bigint NOT NULL,
    type text NOT NULL,
    state_key_nid bigint,
    depth bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    contains_url boolean NOT NULL,
    snapshot_nid bigint,
    auth_nids bigint[] NOT NULL,
    redacted_by bigint,
    "json" bytea NOT NULL
);

CREATE TABLE public.external_ids (
    provider_id text NOT NULL,
    subject text NOT NULL,
    user_nid bigint NOT NULL,
    shown_as text NOT NULL,
    linked_ts bigint NOT NULL
);

CREATE TABLE public.fallback_keys (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    "json" bytea NOT NULL,
    used boolean DEFAULT false NOT NULL
);

CREATE TABLE public.filters (
    user_nid bigint NOT NULL,
    filter_id bigint NOT NULL,
    "json" bytea NOT NULL
);

CREATE TABLE public.handed_over_events (
    event_nid bigint NOT NULL,
    server text NOT NULL
);

CREATE TABLE public.hierarchy_pages (
    token text NOT NULL,
    user_nid bigint NOT NULL,
    request text NOT NULL,
    walk bytea NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.jobs (
    job_id text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    params jsonb NOT NULL,
    progress jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'scheduled'::text NOT NULL,
    error text,
    created_ts bigint NOT NULL,
    finished_ts bigint,
    claimed_until bigint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.key_backups (
    user_nid bigint NOT NULL,
    version bigint NOT NULL,
    algorithm text NOT NULL,
    auth_data bytea NOT NULL,
    etag bigint DEFAULT 0 NOT NULL,
    key_count bigint DEFAULT 0 NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);

CREATE TABLE public.key_signatures (
    user_nid bigint NOT NULL,
    target text NOT NULL,
    signer_nid bigint NOT NULL,
    key_id text NOT NULL,
    signature text NOT NULL,
    target_device text,
    signing_device text
);

CREATE TABLE public.login_addresses (
    user_nid bigint NOT NULL,
    address text NOT NULL,
    last_ts bigint NOT NULL
);

CREATE TABLE public.login_tokens (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.media (
    media_nid bigint NOT NULL,
    origin text NOT NULL,
    media_id text NOT NULL,
    user_nid bigint,
    content_type text DEFAULT 'application/octet-stream'::text NOT NULL,
    upload_name text,
    sha256 bytea,
    size bigint,
    created_ts bigint NOT NULL,
    last_access_ts bigint NOT NULL,
    expires_ts bigint,
    quarantined_by text,
    CONSTRAINT media_check CHECK (((sha256 IS NULL) = (size IS NULL)))
);

ALTER TABLE public.media ALTER COLUMN media_nid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.media_media_nid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.media_thumbnails (
    original bytea NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    crop boolean NOT NULL,
    animated boolean NOT NULL,
    content_type text NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL
);

CREATE TABLE public.media_unused_files (
    sha256 bytea NOT NULL,
    since_ts bigint NOT NULL
);

CREATE TABLE public.missing_prev_events (
    room_nid bigint NOT NULL,
    prev_event_id text NOT NULL,
    event_nid bigint NOT NULL
);

CREATE TABLE public.network_rooms (
    instance_id text NOT NULL,
    room_nid bigint NOT NULL
);

CREATE TABLE public.notified_threads (
    room_nid bigint NOT NULL,
    thread_id text NOT NULL,
    last_ord bigint NOT NULL
);

CREATE TABLE public.oauth2_clients (
    client_id text NOT NULL,
    metadata text NOT NULL,
    metadata_hash bytea,
    secret_hash bytea,
    created_ts bigint NOT NULL,
    used_ts bigint NOT NULL
);

CREATE TABLE public.oauth2_codes (
    code_hash bytea NOT NULL,
    client_id text NOT NULL,
    user_nid bigint NOT NULL,
    redirect_uri text NOT NULL,
    scope text NOT NULL,
    device_id text NOT NULL,
    code_challenge text NOT NULL,
    expires_ts bigint NOT NULL,
    used boolean DEFAULT false NOT NULL,
    family_hash bytea
);

CREATE TABLE public.oauth2_device_grants (
    device_code_hash bytea NOT NULL,
    user_code_hash bytea NOT NULL,
    client_id text NOT NULL,
    scope text NOT NULL,
    device_id text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    user_nid bigint,
    interval_ms bigint NOT NULL,
    polled_ts bigint,
    expires_ts bigint NOT NULL,
    CONSTRAINT oauth2_device_grants_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'approved'::text, 'denied'::text])))
);

CREATE TABLE public.one_time_keys (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    "json" bytea NOT NULL,
    batch bigint NOT NULL,
    claimed_ts bigint
);

CREATE SEQUENCE public.one_time_key_batches
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.one_time_key_batches OWNED BY public.one_time_keys.batch;

CREATE TABLE public.openid_tokens (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.outgoing_edus (
    destination text NOT NULL,
    pos bigint NOT NULL,
    edu_type text NOT NULL,
    content bytea NOT NULL
);

CREATE TABLE public.outgoing_mail (
    mail_id bigint NOT NULL,
    recipient text NOT NULL,
    template text NOT NULL,
    language text NOT NULL,
    fields text NOT NULL,
    created_ts bigint NOT NULL,
    expires_ts bigint NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_ts bigint NOT NULL
);

ALTER TABLE public.outgoing_mail ALTER COLUMN mail_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outgoing_mail_mail_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE public.positions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.presence (
    user_nid bigint NOT NULL,
    presence text NOT NULL,
    status_msg text,
    last_active_ts bigint NOT NULL
);

CREATE TABLE public.profile_fields (
    user_nid bigint NOT NULL,
    name text NOT NULL,
    value bytea NOT NULL
);

CREATE TABLE public.push_queue (
    pusher_id bigint NOT NULL,
    event_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    ord bigint NOT NULL,
    queued_ts bigint NOT NULL
);

CREATE TABLE public.push_rules (
    user_nid bigint NOT NULL,
    rules bytea NOT NULL,
    pos bigint NOT NULL
);

CREATE TABLE public.pushers (
    pusher_id bigint NOT NULL,
    user_nid bigint NOT NULL,
    device_id text,
    app_id text NOT NULL,
    pushkey text NOT NULL,
    kind text NOT NULL,
    app_display_name text NOT NULL,
    device_display_name text NOT NULL,
    profile_tag text,
    lang text NOT NULL,
    data bytea NOT NULL,
    enabled boolean NOT NULL,
    ack_token text,
    ack_expires_ts bigint DEFAULT 0 NOT NULL,
    ack_due boolean DEFAULT false NOT NULL,
    set_ts bigint NOT NULL,
    pos bigint NOT NULL,
    after_pos bigint NOT NULL,
    badge bigint,
    changed_pos bigint DEFAULT 0 NOT NULL,
    told_pos bigint DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    retry_at_ts bigint DEFAULT 0 NOT NULL
);

ALTER TABLE public.pushers ALTER COLUMN pusher_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.pushers_pusher_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.quiet_spans (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    from_ord bigint NOT NULL,
    to_ord bigint DEFAULT '9223372036854775807'::bigint NOT NULL
);

CREATE TABLE public.rate_limit_overrides (
    user_nid bigint NOT NULL,
    messages_per_second integer NOT NULL,
    burst_count integer NOT NULL
);

CREATE TABLE public.rate_limits (
    key bytea NOT NULL,
    full_ts double precision NOT NULL
);

CREATE TABLE public.read_marks (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    thread_id text NOT NULL,
    ord bigint NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE public.receipts (
    room_nid bigint NOT NULL,
    receipt_type text NOT NULL,
    user_nid bigint NOT NULL,
    thread_id text DEFAULT ''::text NOT NULL,
    event_id text NOT NULL,
    data bytea NOT NULL,
    pos bigint NOT NULL
);

CREATE TABLE public.received_to_device (
    origin text NOT NULL,
    message_id text NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.received_transactions (
    origin text NOT NULL,
    txn_id text NOT NULL,
    response bytea NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.recovery_tokens (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    created_ts bigint NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.redactions (
    event_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    redacts text NOT NULL
);

CREATE TABLE public.refresh_tokens (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    pending boolean NOT NULL,
    created_ts bigint NOT NULL,
    expires_ts bigint
);

CREATE TABLE public.registration_tokens (
    token text NOT NULL,
    uses_allowed integer,
    pending integer DEFAULT 0 NOT NULL,
    completed integer DEFAULT 0 NOT NULL,
    expires_ts bigint
);

CREATE TABLE public.remote_device_lists (
    user_nid bigint NOT NULL,
    as_of bigint NOT NULL,
    stream_ids bigint[] NOT NULL,
    stale boolean DEFAULT false NOT NULL,
    master_key bytea,
    self_signing_key bytea
);

CREATE TABLE public.remote_devices (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    display_name text,
    keys bytea
);

CREATE TABLE public.rendezvous_sessions (
    rendezvous_id text NOT NULL,
    data bytea NOT NULL,
    content_type text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    changed_ts bigint NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.reports (
    report_id bigint NOT NULL,
    kind text NOT NULL,
    reporter_nid bigint NOT NULL,
    room_id text,
    event_id text,
    user_id text,
    reason text,
    score integer,
    created_ts bigint NOT NULL
);

ALTER TABLE public.reports ALTER COLUMN report_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.reports_report_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.room_aliases (
    alias text NOT NULL,
    room_nid bigint NOT NULL,
    creator_nid bigint NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.room_keys (
    user_nid bigint NOT NULL,
    version bigint NOT NULL,
    room_id text NOT NULL,
    session_id text NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    is_verified boolean NOT NULL,
    session_data bytea NOT NULL
);

CREATE TABLE public.room_members (
    room_nid bigint NOT NULL,
    user_nid bigint NOT NULL,
    membership text NOT NULL,
    event_nid bigint NOT NULL,
    pos bigint NOT NULL,
    stripped_state bytea,
    forgotten boolean DEFAULT false NOT NULL,
    joined_before boolean DEFAULT false NOT NULL,
    put_out boolean DEFAULT false NOT NULL
);

CREATE TABLE public.room_notifications (
    room_nid bigint NOT NULL,
    ord bigint NOT NULL,
    event_nid bigint NOT NULL,
    thread_id text NOT NULL,
    notify boolean NOT NULL,
    highlight boolean NOT NULL,
    unread boolean NOT NULL,
    withdrawn boolean DEFAULT false NOT NULL,
    notifies bigint NOT NULL,
    highlights bigint NOT NULL,
    unreads bigint NOT NULL,
    thread_notifies bigint NOT NULL,
    thread_highlights bigint NOT NULL,
    thread_unreads bigint NOT NULL
);

CREATE TABLE public.room_plain_keys (
    room_nid bigint NOT NULL,
    state_key_nid bigint NOT NULL
);

CREATE TABLE public.room_state (
    room_nid bigint NOT NULL,
    state_key_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    from_pos bigint NOT NULL,
    to_pos bigint DEFAULT '9223372036854775807'::bigint NOT NULL
);

CREATE TABLE public.room_summaries (
    room_nid bigint NOT NULL,
    joined_members bigint DEFAULT 0 NOT NULL,
    published boolean DEFAULT false NOT NULL,
    name text,
    topic text,
    canonical_alias text,
    avatar_url text,
    join_rule text DEFAULT 'invite'::text NOT NULL,
    world_readable boolean DEFAULT false NOT NULL,
    guest_can_join boolean DEFAULT false NOT NULL,
    room_type text,
    encryption text,
    allowed_room_ids text[] DEFAULT '{}'::text[] NOT NULL,
    search text DEFAULT ''::text NOT NULL
);

CREATE TABLE public.rooms (
    room_nid bigint NOT NULL,
    room_id text NOT NULL,
    room_version text NOT NULL,
    head_version bigint DEFAULT 0 NOT NULL,
    extremities bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    depth bigint DEFAULT 0 NOT NULL,
    snapshot_nid bigint,
    created_ts bigint NOT NULL,
    active_pos bigint DEFAULT 0 NOT NULL,
    bump_pos bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE public.rooms ALTER COLUMN room_nid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rooms_room_nid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.schema_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.second_factors (
    user_nid bigint NOT NULL,
    secret bytea,
    confirmed_ts bigint,
    last_step bigint DEFAULT 0 NOT NULL,
    pending_secret bytea,
    pending_ts bigint,
    tries_full_ts bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.server_keys (
    server text NOT NULL,
    key_id text NOT NULL,
    verify_key text NOT NULL,
    valid_until_ts bigint NOT NULL,
    expired_ts bigint,
    fetched_ts bigint NOT NULL,
    response bytea NOT NULL
);

CREATE TABLE public.sessions (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    family_hash bytea NOT NULL,
    client_id text,
    scope text,
    created_ts bigint NOT NULL
);

CREATE TABLE public.single_sign_on_logins (
    state_hash bytea NOT NULL,
    provider_id text NOT NULL,
    browser bytea NOT NULL,
    nonce text NOT NULL,
    code_verifier text NOT NULL,
    link_to bigint,
    continue_to text NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.single_sign_on_newcomers (
    browser bytea NOT NULL,
    provider_id text NOT NULL,
    identity jsonb NOT NULL,
    continue_to text NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.single_sign_on_sessions (
    token_hash bytea NOT NULL,
    provider_id text NOT NULL,
    subject text NOT NULL,
    session_id text NOT NULL
);

CREATE SEQUENCE public.sliding_versions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.sliding_connections (
    connection_nid bigint NOT NULL,
    user_nid bigint NOT NULL,
    device_id text,
    conn_id text NOT NULL,
    used_ts bigint NOT NULL,
    required_states bytea NOT NULL,
    known_version bigint DEFAULT 0 NOT NULL,
    known_pos bigint DEFAULT 0 NOT NULL,
    known_typing bigint DEFAULT 0 NOT NULL,
    known_extensions text[] DEFAULT '{}'::text[] NOT NULL,
    issued_version bigint DEFAULT nextval('public.sliding_versions'::regclass) NOT NULL,
    issued_pos bigint NOT NULL,
    issued_typing bigint NOT NULL,
    issued_extensions text[] NOT NULL,
    issued_rooms bytea NOT NULL
);

ALTER TABLE public.sliding_connections ALTER COLUMN connection_nid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.sliding_connections_connection_nid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.sliding_rooms (
    connection_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    sent_pos bigint NOT NULL,
    first_ord bigint NOT NULL,
    timeline_limit integer NOT NULL,
    required_state integer NOT NULL,
    stripped boolean NOT NULL,
    is_dm boolean NOT NULL,
    unread boolean NOT NULL,
    receipts_pos bigint,
    data_pos bigint
);

CREATE TABLE public.state_keys (
    state_key_nid bigint NOT NULL,
    type text NOT NULL,
    state_key text NOT NULL
);

ALTER TABLE public.state_keys ALTER COLUMN state_key_nid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.state_keys_state_key_nid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.state_snapshots (
    snapshot_nid bigint NOT NULL,
    base_nid bigint,
    level smallint NOT NULL,
    delta bytea NOT NULL
);

CREATE TABLE public.stream_readers (
    reader text NOT NULL,
    pos bigint NOT NULL
);

CREATE TABLE public.thread_subscriptions (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    thread_id text NOT NULL,
    subscribed boolean NOT NULL,
    automatic boolean NOT NULL,
    pos bigint NOT NULL
);

CREATE TABLE public.threepid_validations (
    sid text NOT NULL,
    secret_hash bytea NOT NULL,
    purpose text NOT NULL,
    medium text NOT NULL,
    address text NOT NULL,
    send_attempt bigint NOT NULL,
    token_hashes bytea[] NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    next_link text,
    created_ts bigint NOT NULL,
    expires_ts bigint NOT NULL,
    validated_ts bigint
);

CREATE TABLE public.to_device_messages (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    pos bigint NOT NULL,
    message bytea NOT NULL
);

CREATE TABLE public.to_device_transactions (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    type text NOT NULL,
    txn_id text NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.uia_sessions (
    key bytea NOT NULL,
    params bytea NOT NULL,
    completed jsonb NOT NULL,
    used boolean DEFAULT false NOT NULL,
    created_ts bigint NOT NULL
);

CREATE TABLE public.used_logout_tokens (
    token_hash bytea NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.used_registration_nonces (
    nonce_hash bytea NOT NULL,
    expires_ts bigint NOT NULL
);

CREATE TABLE public.user_directory (
    user_nid bigint NOT NULL,
    displayname text,
    avatar_url text,
    text text NOT NULL,
    terms tsvector NOT NULL
);

CREATE TABLE public.user_directory_stale (
    user_nid bigint NOT NULL
);

CREATE TABLE public.user_notifications (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    ord bigint NOT NULL,
    event_nid bigint NOT NULL,
    thread_id text NOT NULL,
    notify boolean NOT NULL,
    highlight boolean NOT NULL,
    notify_diff smallint NOT NULL,
    highlight_diff smallint NOT NULL,
    unread_diff smallint NOT NULL
);

CREATE TABLE public.users (
    user_nid bigint NOT NULL,
    user_id text NOT NULL,
    server text NOT NULL
);

ALTER TABLE public.users ALTER COLUMN user_nid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.users_user_nid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.web_sessions (
    token_hash bytea NOT NULL,
    user_nid bigint NOT NULL,
    created_ts bigint NOT NULL,
    last_seen_ts bigint NOT NULL,
    authenticated_ts bigint,
    keep boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY public.accepted_terms
    ADD CONSTRAINT accepted_terms_pkey PRIMARY KEY (user_nid, policy, version);

ALTER TABLE ONLY public.access_tokens
    ADD CONSTRAINT access_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.account_data
    ADD CONSTRAINT account_data_pkey PRIMARY KEY (user_nid, room_nid, type);

ALTER TABLE ONLY public.account_threepids
    ADD CONSTRAINT account_threepids_pkey PRIMARY KEY (medium, address);

ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY public.backup_codes
    ADD CONSTRAINT backup_codes_pkey PRIMARY KEY (user_nid, code_hash);

ALTER TABLE ONLY public.blocked_rooms
    ADD CONSTRAINT blocked_rooms_pkey PRIMARY KEY (room_id);

ALTER TABLE ONLY public.bound_threepids
    ADD CONSTRAINT bound_threepids_pkey PRIMARY KEY (user_nid, medium, address, id_server);

ALTER TABLE ONLY public.cross_signing_keys
    ADD CONSTRAINT cross_signing_keys_pkey PRIMARY KEY (user_nid, usage);

ALTER TABLE ONLY public.cross_signing_resets
    ADD CONSTRAINT cross_signing_resets_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.delayed_events
    ADD CONSTRAINT delayed_events_pkey PRIMARY KEY (delay_id);

ALTER TABLE ONLY public.delayed_events
    ADD CONSTRAINT delayed_events_user_nid_device_id_room_nid_txn_id_key UNIQUE (user_nid, device_id, room_nid, txn_id);

ALTER TABLE ONLY public.destination_rooms
    ADD CONSTRAINT destination_rooms_pkey PRIMARY KEY (destination, room_nid);

ALTER TABLE ONLY public.destinations
    ADD CONSTRAINT destinations_pkey PRIMARY KEY (destination);

ALTER TABLE ONLY public.device_keys
    ADD CONSTRAINT device_keys_pkey PRIMARY KEY (user_nid, device_id);

ALTER TABLE ONLY public.device_list_changes
    ADD CONSTRAINT device_list_changes_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (user_nid, device_id);

ALTER TABLE ONLY public.event_relations
    ADD CONSTRAINT event_relations_pkey PRIMARY KEY (event_nid);

ALTER TABLE ONLY public.event_search
    ADD CONSTRAINT event_search_pkey PRIMARY KEY (event_nid);

ALTER TABLE ONLY public.event_transactions
    ADD CONSTRAINT event_transactions_pkey PRIMARY KEY (user_nid, device_id, room_nid, endpoint, txn_id);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_event_id_key UNIQUE (event_id);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_nid);

ALTER TABLE ONLY public.external_ids
    ADD CONSTRAINT external_ids_pkey PRIMARY KEY (provider_id, subject);

ALTER TABLE ONLY public.fallback_keys
    ADD CONSTRAINT fallback_keys_pkey PRIMARY KEY (user_nid, device_id, algorithm);

ALTER TABLE ONLY public.filters
    ADD CONSTRAINT filters_pkey PRIMARY KEY (user_nid, filter_id);

ALTER TABLE ONLY public.handed_over_events
    ADD CONSTRAINT handed_over_events_pkey PRIMARY KEY (event_nid);

ALTER TABLE ONLY public.hierarchy_pages
    ADD CONSTRAINT hierarchy_pages_pkey PRIMARY KEY (token);

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY public.key_backups
    ADD CONSTRAINT key_backups_pkey PRIMARY KEY (user_nid, version);

ALTER TABLE ONLY public.key_signatures
    ADD CONSTRAINT key_signatures_pkey PRIMARY KEY (user_nid, target, signer_nid, key_id);

ALTER TABLE ONLY public.login_addresses
    ADD CONSTRAINT login_addresses_pkey PRIMARY KEY (user_nid, address);

ALTER TABLE ONLY public.login_tokens
    ADD CONSTRAINT login_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.media
    ADD CONSTRAINT media_origin_media_id_key UNIQUE (origin, media_id);

ALTER TABLE ONLY public.media
    ADD CONSTRAINT media_pkey PRIMARY KEY (media_nid);

ALTER TABLE ONLY public.media_thumbnails
    ADD CONSTRAINT media_thumbnails_pkey PRIMARY KEY (original, width, height, crop, animated);

ALTER TABLE ONLY public.media_unused_files
    ADD CONSTRAINT media_unused_files_pkey PRIMARY KEY (sha256);

ALTER TABLE ONLY public.missing_prev_events
    ADD CONSTRAINT missing_prev_events_pkey PRIMARY KEY (room_nid, prev_event_id, event_nid);

ALTER TABLE ONLY public.network_rooms
    ADD CONSTRAINT network_rooms_pkey PRIMARY KEY (instance_id, room_nid);

ALTER TABLE ONLY public.notified_threads
    ADD CONSTRAINT notified_threads_pkey PRIMARY KEY (room_nid, thread_id);

ALTER TABLE ONLY public.oauth2_clients
    ADD CONSTRAINT oauth2_clients_metadata_hash_key UNIQUE (metadata_hash);

ALTER TABLE ONLY public.oauth2_clients
    ADD CONSTRAINT oauth2_clients_pkey PRIMARY KEY (client_id);

ALTER TABLE ONLY public.oauth2_codes
    ADD CONSTRAINT oauth2_codes_pkey PRIMARY KEY (code_hash);

ALTER TABLE ONLY public.oauth2_device_grants
    ADD CONSTRAINT oauth2_device_grants_pkey PRIMARY KEY (device_code_hash);

ALTER TABLE ONLY public.oauth2_device_grants
    ADD CONSTRAINT oauth2_device_grants_user_code_hash_key UNIQUE (user_code_hash);

ALTER TABLE ONLY public.one_time_keys
    ADD CONSTRAINT one_time_keys_pkey PRIMARY KEY (user_nid, device_id, algorithm, key_id);

ALTER TABLE ONLY public.openid_tokens
    ADD CONSTRAINT openid_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.outgoing_edus
    ADD CONSTRAINT outgoing_edus_pkey PRIMARY KEY (destination, pos);

ALTER TABLE ONLY public.outgoing_mail
    ADD CONSTRAINT outgoing_mail_pkey PRIMARY KEY (mail_id);

ALTER TABLE ONLY public.presence
    ADD CONSTRAINT presence_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.profile_fields
    ADD CONSTRAINT profile_fields_pkey PRIMARY KEY (user_nid, name);

ALTER TABLE ONLY public.push_queue
    ADD CONSTRAINT push_queue_pkey PRIMARY KEY (pusher_id, ord, event_nid);

ALTER TABLE ONLY public.push_rules
    ADD CONSTRAINT push_rules_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.pushers
    ADD CONSTRAINT pushers_pkey PRIMARY KEY (pusher_id);

ALTER TABLE ONLY public.pushers
    ADD CONSTRAINT pushers_user_nid_app_id_pushkey_key UNIQUE (user_nid, app_id, pushkey);

ALTER TABLE ONLY public.quiet_spans
    ADD CONSTRAINT quiet_spans_pkey PRIMARY KEY (user_nid, room_nid, from_ord);

ALTER TABLE ONLY public.rate_limit_overrides
    ADD CONSTRAINT rate_limit_overrides_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.rate_limits
    ADD CONSTRAINT rate_limits_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.read_marks
    ADD CONSTRAINT read_marks_pkey PRIMARY KEY (user_nid, room_nid, thread_id);

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_pkey PRIMARY KEY (room_nid, receipt_type, user_nid, thread_id);

ALTER TABLE ONLY public.received_to_device
    ADD CONSTRAINT received_to_device_pkey PRIMARY KEY (origin, message_id);

ALTER TABLE ONLY public.received_transactions
    ADD CONSTRAINT received_transactions_pkey PRIMARY KEY (origin, txn_id);

ALTER TABLE ONLY public.recovery_tokens
    ADD CONSTRAINT recovery_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.redactions
    ADD CONSTRAINT redactions_pkey PRIMARY KEY (event_nid);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.registration_tokens
    ADD CONSTRAINT registration_tokens_pkey PRIMARY KEY (token);

ALTER TABLE ONLY public.remote_device_lists
    ADD CONSTRAINT remote_device_lists_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.remote_devices
    ADD CONSTRAINT remote_devices_pkey PRIMARY KEY (user_nid, device_id);

ALTER TABLE ONLY public.rendezvous_sessions
    ADD CONSTRAINT rendezvous_sessions_pkey PRIMARY KEY (rendezvous_id);

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT reports_pkey PRIMARY KEY (report_id);

ALTER TABLE ONLY public.room_aliases
    ADD CONSTRAINT room_aliases_pkey PRIMARY KEY (alias);

ALTER TABLE ONLY public.room_keys
    ADD CONSTRAINT room_keys_pkey PRIMARY KEY (user_nid, version, room_id, session_id);

ALTER TABLE ONLY public.room_members
    ADD CONSTRAINT room_members_pkey PRIMARY KEY (room_nid, user_nid);

ALTER TABLE ONLY public.room_notifications
    ADD CONSTRAINT room_notifications_pkey PRIMARY KEY (room_nid, ord);

ALTER TABLE ONLY public.room_plain_keys
    ADD CONSTRAINT room_plain_keys_pkey PRIMARY KEY (room_nid, state_key_nid);

ALTER TABLE ONLY public.room_state
    ADD CONSTRAINT room_state_pkey PRIMARY KEY (room_nid, state_key_nid, from_pos);

ALTER TABLE ONLY public.room_summaries
    ADD CONSTRAINT room_summaries_pkey PRIMARY KEY (room_nid);

ALTER TABLE ONLY public.rooms
    ADD CONSTRAINT rooms_pkey PRIMARY KEY (room_nid);

ALTER TABLE ONLY public.rooms
    ADD CONSTRAINT rooms_room_id_key UNIQUE (room_id);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.second_factors
    ADD CONSTRAINT second_factors_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.server_keys
    ADD CONSTRAINT server_keys_pkey PRIMARY KEY (server, key_id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_family_hash_key UNIQUE (family_hash);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (user_nid, device_id);

ALTER TABLE ONLY public.single_sign_on_logins
    ADD CONSTRAINT single_sign_on_logins_pkey PRIMARY KEY (state_hash);

ALTER TABLE ONLY public.single_sign_on_newcomers
    ADD CONSTRAINT single_sign_on_newcomers_pkey PRIMARY KEY (browser);

ALTER TABLE ONLY public.single_sign_on_sessions
    ADD CONSTRAINT single_sign_on_sessions_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.sliding_connections
    ADD CONSTRAINT sliding_connections_pkey PRIMARY KEY (connection_nid);

ALTER TABLE ONLY public.sliding_connections
    ADD CONSTRAINT sliding_connections_user_nid_device_id_conn_id_key UNIQUE NULLS NOT DISTINCT (user_nid, device_id, conn_id);

ALTER TABLE ONLY public.sliding_rooms
    ADD CONSTRAINT sliding_rooms_pkey PRIMARY KEY (connection_nid, room_nid);

ALTER TABLE ONLY public.state_keys
    ADD CONSTRAINT state_keys_pkey PRIMARY KEY (state_key_nid);

ALTER TABLE ONLY public.state_keys
    ADD CONSTRAINT state_keys_type_state_key_key UNIQUE (type, state_key);

ALTER TABLE ONLY public.state_snapshots
    ADD CONSTRAINT state_snapshots_pkey PRIMARY KEY (snapshot_nid);

ALTER TABLE ONLY public.stream_readers
    ADD CONSTRAINT stream_readers_pkey PRIMARY KEY (reader);

ALTER TABLE ONLY public.thread_subscriptions
    ADD CONSTRAINT thread_subscriptions_pkey PRIMARY KEY (user_nid, room_nid, thread_id);

ALTER TABLE ONLY public.threepid_validations
    ADD CONSTRAINT threepid_validations_pkey PRIMARY KEY (sid);

ALTER TABLE ONLY public.threepid_validations
    ADD CONSTRAINT threepid_validations_secret_hash_purpose_medium_address_key UNIQUE (secret_hash, purpose, medium, address);

ALTER TABLE ONLY public.to_device_messages
    ADD CONSTRAINT to_device_messages_pkey PRIMARY KEY (user_nid, device_id, pos);

ALTER TABLE ONLY public.to_device_transactions
    ADD CONSTRAINT to_device_transactions_pkey PRIMARY KEY (user_nid, device_id, type, txn_id);

ALTER TABLE ONLY public.uia_sessions
    ADD CONSTRAINT uia_sessions_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.used_logout_tokens
    ADD CONSTRAINT used_logout_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.used_registration_nonces
    ADD CONSTRAINT used_registration_nonces_pkey PRIMARY KEY (nonce_hash);

ALTER TABLE ONLY public.user_directory
    ADD CONSTRAINT user_directory_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.user_notifications
    ADD CONSTRAINT user_notifications_pkey PRIMARY KEY (user_nid, room_nid, ord);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_nid);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_user_id_key UNIQUE (user_id);

ALTER TABLE ONLY public.web_sessions
    ADD CONSTRAINT web_sessions_pkey PRIMARY KEY (token_hash);

CREATE INDEX access_tokens_device ON public.access_tokens USING btree (user_nid, device_id);

CREATE INDEX access_tokens_refresh ON public.access_tokens USING btree (refresh_hash) WHERE (refresh_hash IS NOT NULL);

CREATE INDEX account_data_ignored_users ON public.account_data USING btree (pos) WHERE (type = 'm.ignored_user_list'::text);

CREATE INDEX account_data_stream ON public.account_data USING btree (user_nid, pos);

CREATE INDEX account_threepids_user ON public.account_threepids USING btree (user_nid);

CREATE INDEX accounts_admins ON public.accounts USING btree (user_nid) WHERE admin;

CREATE INDEX accounts_created ON public.accounts USING btree (created_ts, user_nid);

CREATE INDEX audit_log_target ON public.audit_log USING btree (target, audit_id);

CREATE INDEX delayed_events_due ON public.delayed_events USING btree (send_ts) WHERE (finalised_ts IS NULL);

CREATE INDEX delayed_events_finalised ON public.delayed_events USING btree (user_nid, finalised_ts) WHERE (finalised_ts IS NOT NULL);

CREATE INDEX delayed_events_user ON public.delayed_events USING btree (user_nid, send_ts) WHERE (finalised_ts IS NULL);

CREATE INDEX device_list_changes_stream ON public.device_list_changes USING btree (pos);

CREATE INDEX event_relations_target ON public.event_relations USING btree (relates_to, rel_type, ord) INCLUDE (sender_nid, room_nid);

CREATE INDEX event_relations_threads ON public.event_relations USING btree (room_nid, ord) INCLUDE (relates_to, sender_nid) WHERE (rel_type = 'm.thread'::text);

CREATE INDEX event_search_terms ON public.event_search USING gin (terms) WITH (fastupdate='on', gin_pending_list_limit='1024');

CREATE INDEX event_transactions_event ON public.event_transactions USING btree (event_nid);

CREATE INDEX events_depth ON public.events USING btree (room_nid, depth);

CREATE INDEX events_time ON public.events USING btree (room_nid, origin_server_ts) WHERE (ord IS NOT NULL);

CREATE INDEX events_timeline ON public.events USING btree (room_nid, ord) WHERE (ord IS NOT NULL);

CREATE INDEX external_ids_by_user ON public.external_ids USING btree (user_nid);

CREATE INDEX hierarchy_pages_age ON public.hierarchy_pages USING btree (created_ts);

CREATE INDEX hierarchy_pages_user ON public.hierarchy_pages USING btree (user_nid, created_ts);

CREATE INDEX jobs_finished ON public.jobs USING btree (finished_ts) WHERE (finished_ts IS NOT NULL);

CREATE INDEX jobs_open ON public.jobs USING btree (claimed_until) WHERE (finished_ts IS NULL);

CREATE INDEX jobs_target ON public.jobs USING btree (target, created_ts);

CREATE INDEX key_signatures_signer ON public.key_signatures USING btree (signer_nid, key_id);

CREATE INDEX key_signatures_signing_device ON public.key_signatures USING btree (signer_nid, signing_device) WHERE (signing_device IS NOT NULL);

CREATE INDEX key_signatures_target_device ON public.key_signatures USING btree (user_nid, target_device) WHERE (target_device IS NOT NULL);

CREATE INDEX login_tokens_expire ON public.login_tokens USING btree (expires_ts);

CREATE INDEX media_by_file ON public.media USING btree (sha256) WHERE (sha256 IS NOT NULL);

CREATE INDEX media_by_last_access ON public.media USING btree (last_access_ts);

CREATE INDEX media_by_user ON public.media USING btree (user_nid, media_nid) WHERE (user_nid IS NOT NULL);

CREATE INDEX media_pending ON public.media USING btree (expires_ts) WHERE (sha256 IS NULL);

CREATE INDEX media_thumbnails_by_file ON public.media_thumbnails USING btree (sha256);

CREATE INDEX media_unused_files_by_time ON public.media_unused_files USING btree (since_ts);

CREATE INDEX network_rooms_room ON public.network_rooms USING btree (room_nid);

CREATE INDEX notified_threads_last ON public.notified_threads USING btree (room_nid, last_ord);

CREATE INDEX oauth2_clients_used ON public.oauth2_clients USING btree (used_ts);

CREATE INDEX oauth2_codes_client ON public.oauth2_codes USING btree (client_id);

CREATE INDEX oauth2_codes_expire ON public.oauth2_codes USING btree (expires_ts);

CREATE INDEX oauth2_device_grants_client ON public.oauth2_device_grants USING btree (client_id);

CREATE INDEX oauth2_device_grants_expire ON public.oauth2_device_grants USING btree (expires_ts);

CREATE INDEX one_time_keys_unclaimed ON public.one_time_keys USING btree (user_nid, device_id, algorithm, batch) WHERE (claimed_ts IS NULL);

CREATE INDEX openid_tokens_expiry ON public.openid_tokens USING btree (expires_ts);

CREATE INDEX outgoing_edus_stream ON public.outgoing_edus USING btree (pos);

CREATE INDEX outgoing_mail_due ON public.outgoing_mail USING btree (next_attempt_ts);

CREATE INDEX push_queue_room ON public.push_queue USING btree (room_nid);

CREATE INDEX push_rules_stream ON public.push_rules USING btree (pos);

CREATE INDEX pushers_badge_due ON public.pushers USING btree (pusher_id) WHERE (changed_pos > told_pos);

CREATE INDEX pushers_device ON public.pushers USING btree (user_nid, device_id);

CREATE INDEX pushers_key ON public.pushers USING btree (app_id, pushkey);

CREATE INDEX pushers_stream ON public.pushers USING btree (pos);

CREATE INDEX rate_limits_full ON public.rate_limits USING btree (full_ts);

CREATE INDEX receipts_read ON public.receipts USING btree (pos) WHERE (receipt_type = ANY (ARRAY['m.read'::text, 'm.read.private'::text]));

CREATE INDEX receipts_stream ON public.receipts USING btree (room_nid, pos);

CREATE INDEX received_to_device_age ON public.received_to_device USING btree (created_ts);

CREATE INDEX recovery_tokens_age ON public.recovery_tokens USING btree (expires_ts);

CREATE INDEX recovery_tokens_user ON public.recovery_tokens USING btree (user_nid);

CREATE INDEX redactions_target ON public.redactions USING btree (redacts);

CREATE INDEX refresh_tokens_device ON public.refresh_tokens USING btree (user_nid, device_id);

CREATE INDEX rendezvous_sessions_expire ON public.rendezvous_sessions USING btree (expires_ts);

CREATE INDEX room_aliases_room ON public.room_aliases USING btree (room_nid);

CREATE INDEX room_members_invited ON public.room_members USING btree (room_nid) WHERE (membership = 'invite'::text);

CREATE INDEX room_members_present ON public.room_members USING btree (room_nid, pos, user_nid) WHERE (membership = ANY (ARRAY['join'::text, 'invite'::text]));

CREATE INDEX room_members_user ON public.room_members USING btree (user_nid, membership);

CREATE INDEX room_notifications_highlights ON public.room_notifications USING btree (room_nid, ord) WHERE (highlight AND (NOT withdrawn));

CREATE INDEX room_notifications_stream ON public.room_notifications USING btree (ord) WHERE notify;

CREATE INDEX room_notifications_thread ON public.room_notifications USING btree (room_nid, thread_id, ord);

CREATE INDEX room_notifications_withdrawn ON public.room_notifications USING btree (room_nid, ord) WHERE withdrawn;

CREATE UNIQUE INDEX room_state_current ON public.room_state USING btree (room_nid, state_key_nid) INCLUDE (event_nid) WHERE (to_pos = '9223372036854775807'::bigint);

CREATE INDEX room_state_from ON public.room_state USING btree (room_nid, from_pos);

CREATE INDEX room_state_to ON public.room_state USING btree (room_nid, to_pos) WHERE (to_pos < '9223372036854775807'::bigint);

CREATE INDEX room_summaries_directory ON public.room_summaries USING btree (joined_members, room_nid) WHERE published;

CREATE INDEX sessions_client ON public.sessions USING btree (client_id) WHERE (client_id IS NOT NULL);

CREATE INDEX single_sign_on_logins_expire ON public.single_sign_on_logins USING btree (expires_ts);

CREATE INDEX single_sign_on_newcomers_expire ON public.single_sign_on_newcomers USING btree (expires_ts);

CREATE INDEX single_sign_on_sessions_by_subject ON public.single_sign_on_sessions USING btree (provider_id, subject);

CREATE INDEX thread_subscriptions_stream ON public.thread_subscriptions USING btree (user_nid, pos);

CREATE INDEX threepid_validations_age ON public.threepid_validations USING btree (expires_ts);

CREATE INDEX to_device_transactions_age ON public.to_device_transactions USING btree (created_ts);

CREATE INDEX uia_sessions_created ON public.uia_sessions USING btree (created_ts);

CREATE INDEX used_registration_nonces_expires ON public.used_registration_nonces USING btree (expires_ts);

CREATE INDEX user_directory_terms ON public.user_directory USING gin (terms) WITH (fastupdate='on');

CREATE INDEX user_notifications_event ON public.user_notifications USING btree (room_nid, ord);

CREATE INDEX user_notifications_stream ON public.user_notifications USING btree (ord) WHERE notify;

CREATE INDEX web_sessions_by_last_seen ON public.web_sessions USING btree (last_seen_ts);

CREATE INDEX web_sessions_by_user ON public.web_sessions USING btree (user_nid);

CREATE TRIGGER audit_log_rows_stay BEFORE DELETE OR UPDATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.audit_log_is_append_only();

ALTER TABLE public.audit_log ENABLE ALWAYS TRIGGER audit_log_rows_stay;

CREATE TRIGGER audit_log_stays BEFORE TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.audit_log_is_append_only();

ALTER TABLE public.audit_log ENABLE ALWAYS TRIGGER audit_log_stays;

CREATE TRIGGER user_directory_account AFTER INSERT OR UPDATE OF displayname, avatar_url, deactivated ON public.accounts FOR EACH ROW EXECUTE FUNCTION public.user_directory_account_changed();

CREATE TRIGGER user_directory_added AFTER INSERT ON public.room_members REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.user_directory_members_added();

CREATE TRIGGER user_directory_changed AFTER UPDATE ON public.room_members REFERENCING OLD TABLE AS before NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.user_directory_members_changed();

ALTER TABLE ONLY public.accepted_terms
    ADD CONSTRAINT accepted_terms_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.access_tokens
    ADD CONSTRAINT access_tokens_refresh_hash_fkey FOREIGN KEY (refresh_hash) REFERENCES public.refresh_tokens(token_hash) ON DELETE CASCADE;

ALTER TABLE ONLY public.access_tokens
    ADD CONSTRAINT access_tokens_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.account_data
    ADD CONSTRAINT account_data_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.account_threepids
    ADD CONSTRAINT account_threepids_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.backup_codes
    ADD CONSTRAINT backup_codes_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.second_factors(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.bound_threepids
    ADD CONSTRAINT bound_threepids_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.cross_signing_keys
    ADD CONSTRAINT cross_signing_keys_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.cross_signing_resets
    ADD CONSTRAINT cross_signing_resets_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.delayed_events
    ADD CONSTRAINT delayed_events_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.delayed_events
    ADD CONSTRAINT delayed_events_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.destination_rooms
    ADD CONSTRAINT destination_rooms_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.device_keys
    ADD CONSTRAINT device_keys_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.device_list_changes
    ADD CONSTRAINT device_list_changes_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.event_relations
    ADD CONSTRAINT event_relations_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.event_transactions
    ADD CONSTRAINT event_transactions_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_sender_nid_fkey FOREIGN KEY (sender_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_state_key_nid_fkey FOREIGN KEY (state_key_nid) REFERENCES public.state_keys(state_key_nid);

ALTER TABLE ONLY public.external_ids
    ADD CONSTRAINT external_ids_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.fallback_keys
    ADD CONSTRAINT fallback_keys_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.device_keys(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.filters
    ADD CONSTRAINT filters_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.hierarchy_pages
    ADD CONSTRAINT hierarchy_pages_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.key_backups
    ADD CONSTRAINT key_backups_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.key_signatures
    ADD CONSTRAINT key_signatures_signer_nid_fkey FOREIGN KEY (signer_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.key_signatures
    ADD CONSTRAINT key_signatures_signer_nid_signing_device_fkey FOREIGN KEY (signer_nid, signing_device) REFERENCES public.device_keys(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.key_signatures
    ADD CONSTRAINT key_signatures_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.key_signatures
    ADD CONSTRAINT key_signatures_user_nid_target_device_fkey FOREIGN KEY (user_nid, target_device) REFERENCES public.device_keys(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.login_addresses
    ADD CONSTRAINT login_addresses_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.login_tokens
    ADD CONSTRAINT login_tokens_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.media
    ADD CONSTRAINT media_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE SET NULL;

ALTER TABLE ONLY public.missing_prev_events
    ADD CONSTRAINT missing_prev_events_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.network_rooms
    ADD CONSTRAINT network_rooms_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.notified_threads
    ADD CONSTRAINT notified_threads_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.oauth2_codes
    ADD CONSTRAINT oauth2_codes_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.oauth2_clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.oauth2_codes
    ADD CONSTRAINT oauth2_codes_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.oauth2_device_grants
    ADD CONSTRAINT oauth2_device_grants_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.oauth2_clients(client_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.oauth2_device_grants
    ADD CONSTRAINT oauth2_device_grants_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.one_time_keys
    ADD CONSTRAINT one_time_keys_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.device_keys(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.openid_tokens
    ADD CONSTRAINT openid_tokens_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.presence
    ADD CONSTRAINT presence_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.profile_fields
    ADD CONSTRAINT profile_fields_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid);

ALTER TABLE ONLY public.push_queue
    ADD CONSTRAINT push_queue_pusher_id_fkey FOREIGN KEY (pusher_id) REFERENCES public.pushers(pusher_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.push_queue
    ADD CONSTRAINT push_queue_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.push_rules
    ADD CONSTRAINT push_rules_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.pushers
    ADD CONSTRAINT pushers_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.pushers
    ADD CONSTRAINT pushers_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.quiet_spans
    ADD CONSTRAINT quiet_spans_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.quiet_spans
    ADD CONSTRAINT quiet_spans_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.rate_limit_overrides
    ADD CONSTRAINT rate_limit_overrides_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.read_marks
    ADD CONSTRAINT read_marks_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.read_marks
    ADD CONSTRAINT read_marks_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.recovery_tokens
    ADD CONSTRAINT recovery_tokens_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.redactions
    ADD CONSTRAINT redactions_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.sessions(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.remote_device_lists
    ADD CONSTRAINT remote_device_lists_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.remote_devices
    ADD CONSTRAINT remote_devices_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.remote_device_lists(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.reports
    ADD CONSTRAINT reports_reporter_nid_fkey FOREIGN KEY (reporter_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.room_aliases
    ADD CONSTRAINT room_aliases_creator_nid_fkey FOREIGN KEY (creator_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.room_aliases
    ADD CONSTRAINT room_aliases_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.room_keys
    ADD CONSTRAINT room_keys_user_nid_version_fkey FOREIGN KEY (user_nid, version) REFERENCES public.key_backups(user_nid, version) ON DELETE CASCADE;

ALTER TABLE ONLY public.room_members
    ADD CONSTRAINT room_members_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.room_members
    ADD CONSTRAINT room_members_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.room_notifications
    ADD CONSTRAINT room_notifications_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.room_plain_keys
    ADD CONSTRAINT room_plain_keys_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.room_plain_keys
    ADD CONSTRAINT room_plain_keys_state_key_nid_fkey FOREIGN KEY (state_key_nid) REFERENCES public.state_keys(state_key_nid);

ALTER TABLE ONLY public.room_state
    ADD CONSTRAINT room_state_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.room_state
    ADD CONSTRAINT room_state_state_key_nid_fkey FOREIGN KEY (state_key_nid) REFERENCES public.state_keys(state_key_nid);

ALTER TABLE ONLY public.room_summaries
    ADD CONSTRAINT room_summaries_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.second_factors
    ADD CONSTRAINT second_factors_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.oauth2_clients(client_id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.single_sign_on_logins
    ADD CONSTRAINT single_sign_on_logins_link_to_fkey FOREIGN KEY (link_to) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.single_sign_on_sessions
    ADD CONSTRAINT single_sign_on_sessions_token_hash_fkey FOREIGN KEY (token_hash) REFERENCES public.web_sessions(token_hash) ON UPDATE CASCADE ON DELETE CASCADE;

ALTER TABLE ONLY public.sliding_connections
    ADD CONSTRAINT sliding_connections_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.sliding_connections
    ADD CONSTRAINT sliding_connections_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.sliding_rooms
    ADD CONSTRAINT sliding_rooms_connection_nid_fkey FOREIGN KEY (connection_nid) REFERENCES public.sliding_connections(connection_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.sliding_rooms
    ADD CONSTRAINT sliding_rooms_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.thread_subscriptions
    ADD CONSTRAINT thread_subscriptions_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid) ON DELETE CASCADE;

ALTER TABLE ONLY public.thread_subscriptions
    ADD CONSTRAINT thread_subscriptions_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.to_device_messages
    ADD CONSTRAINT to_device_messages_user_nid_device_id_fkey FOREIGN KEY (user_nid, device_id) REFERENCES public.devices(user_nid, device_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.to_device_transactions
    ADD CONSTRAINT to_device_transactions_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.user_directory
    ADD CONSTRAINT user_directory_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.user_notifications
    ADD CONSTRAINT user_notifications_room_nid_fkey FOREIGN KEY (room_nid) REFERENCES public.rooms(room_nid);

ALTER TABLE ONLY public.user_notifications
    ADD CONSTRAINT user_notifications_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.users(user_nid);

ALTER TABLE ONLY public.web_sessions
    ADD CONSTRAINT web_sessions_user_nid_fkey FOREIGN KEY (user_nid) REFERENCES public.accounts(user_nid) ON DELETE CASCADE;
