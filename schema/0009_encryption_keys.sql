-- Keys for end-to-end encryption as their owners publish them, and the signatures that vouch for them. All of them are
-- public; what is secret never comes here.

-- The identity keys of a device. `json` is the object as it was signed, with the device's own signature only.
CREATE TABLE device_keys (
    user_nid  bigint NOT NULL,
    device_id text NOT NULL,
    json      bytea NOT NULL,
    PRIMARY KEY (user_nid, device_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);

-- `batch` orders the uploads: keys are given out in their order. A key that has been given out stays for some days, so
-- that an upload which a client repeats does not offer it a second time.
CREATE TABLE one_time_keys (
    user_nid   bigint NOT NULL,
    device_id  text NOT NULL,
    algorithm  text NOT NULL,
    key_id     text NOT NULL,
    json       bytea NOT NULL,
    batch      bigint NOT NULL,
    claimed_ts bigint,
    PRIMARY KEY (user_nid, device_id, algorithm, key_id),
    FOREIGN KEY (user_nid, device_id) REFERENCES device_keys ON DELETE CASCADE
);
CREATE SEQUENCE one_time_key_batches OWNED BY one_time_keys.batch;
CREATE INDEX one_time_keys_unclaimed ON one_time_keys (user_nid, device_id, algorithm, batch)
    WHERE claimed_ts IS NULL;

CREATE TABLE fallback_keys (
    user_nid  bigint NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id    text NOT NULL,
    json      bytea NOT NULL,
    used      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_nid, device_id, algorithm),
    FOREIGN KEY (user_nid, device_id) REFERENCES device_keys ON DELETE CASCADE
);

-- The master, self_signing and user_signing key of a user. `public_key` is unpadded Base64.
CREATE TABLE cross_signing_keys (
    user_nid   bigint NOT NULL REFERENCES users,
    usage      text NOT NULL,
    public_key text NOT NULL,
    json       bytea NOT NULL,
    PRIMARY KEY (user_nid, usage)
);

-- Signatures that were added to a key after it had been published. `target` is a device id or the public key of a
-- master key, `key_id` names the signer's key, like ed25519:…. Where a device has signed or is signed it stands in a
-- column of its own too, so that the signature goes with the device's keys.
CREATE TABLE key_signatures (
    user_nid       bigint NOT NULL REFERENCES users,   -- whose key is signed
    target         text NOT NULL,
    signer_nid     bigint NOT NULL REFERENCES users,
    key_id         text NOT NULL,
    signature      text NOT NULL,
    target_device  text,
    signing_device text,
    PRIMARY KEY (user_nid, target, signer_nid, key_id),
    FOREIGN KEY (user_nid, target_device) REFERENCES device_keys ON DELETE CASCADE,
    FOREIGN KEY (signer_nid, signing_device) REFERENCES device_keys ON DELETE CASCADE
);
CREATE INDEX key_signatures_signer ON key_signatures (signer_nid, key_id);
CREATE INDEX key_signatures_target_device ON key_signatures (user_nid, target_device) WHERE target_device IS NOT NULL;
CREATE INDEX key_signatures_signing_device ON key_signatures (signer_nid, signing_device)
    WHERE signing_device IS NOT NULL;

-- Backups of room keys, encrypted by the clients that keep them here. A deleted version keeps its number, so that no
-- other backup ever gets it. `etag` grows with every change of the keys.
CREATE TABLE key_backups (
    user_nid  bigint NOT NULL REFERENCES users,
    version   bigint NOT NULL,
    algorithm text NOT NULL,
    auth_data bytea NOT NULL,
    etag      bigint NOT NULL DEFAULT 0,
    key_count bigint NOT NULL DEFAULT 0,
    deleted   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_nid, version)
);

CREATE TABLE room_keys (
    user_nid            bigint NOT NULL,
    version             bigint NOT NULL,
    room_id             text NOT NULL,
    session_id          text NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count     bigint NOT NULL,
    is_verified         boolean NOT NULL,
    session_data        bytea NOT NULL,
    PRIMARY KEY (user_nid, version, room_id, session_id),
    FOREIGN KEY (user_nid, version) REFERENCES key_backups ON DELETE CASCADE
);
