-- The content repository. The bytes are files that are named by their SHA-256; here stands what they are.
CREATE TABLE media (
    media_nid      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin         text NOT NULL,
    media_id       text NOT NULL,
    -- Who uploaded it; NULL for what another server gave.
    user_nid       bigint REFERENCES accounts ON DELETE SET NULL,
    content_type   text NOT NULL DEFAULT 'application/octet-stream',
    upload_name    text,
    -- NULL while an id has been made and nothing uploaded to it.
    sha256         bytea,
    size           bigint,
    created_ts     bigint NOT NULL,
    last_access_ts bigint NOT NULL,
    -- Until when something must have been uploaded to the id.
    expires_ts     bigint,
    quarantined_by text,
    UNIQUE (origin, media_id),
    CHECK ((sha256 IS NULL) = (size IS NULL))
);
CREATE INDEX media_by_user ON media (user_nid, media_nid) WHERE user_nid IS NOT NULL;
CREATE INDEX media_by_file ON media (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX media_by_last_access ON media (last_access_ts);
CREATE INDEX media_pending ON media (expires_ts) WHERE sha256 IS NULL;

-- Smaller forms of images, for each file that is one (whoever uploaded it, and however often).
CREATE TABLE media_thumbnails (
    original     bytea NOT NULL,
    width        integer NOT NULL,
    height       integer NOT NULL,
    crop         boolean NOT NULL,
    animated     boolean NOT NULL,
    content_type text NOT NULL,
    sha256       bytea NOT NULL,
    size         bigint NOT NULL,
    PRIMARY KEY (original, width, height, crop, animated)
);
CREATE INDEX media_thumbnails_by_file ON media_thumbnails (sha256);

-- Files that perhaps nothing refers to: entered before a file is put in its place, so that a crash loses track of none,
-- and when the last that is known to refer to it goes.
CREATE TABLE media_unused_files (
    sha256   bytea PRIMARY KEY,
    since_ts bigint NOT NULL
);
CREATE INDEX media_unused_files_by_time ON media_unused_files (since_ts);
