-- Relations, search in messages, and the user directory.

-- What aggregations ask of a relation, so that counting a thread reads an index and not its events. `ord` is NULL for
-- events that are not in the timeline. `replaces`: it has what an m.replace must have.
ALTER TABLE event_relations
    ADD COLUMN sender_nid bigint,
    ADD COLUMN ord bigint,
    ADD COLUMN replaces boolean NOT NULL DEFAULT false;
UPDATE event_relations l
   SET sender_nid = e.sender_nid,
       ord = e.ord,
       replaces = l.rel_type = 'm.replace' AND e.state_key_nid IS NULL AND (
           e.type = 'm.room.encrypted'
           OR json_typeof(convert_from(e.json, 'UTF8')::json -> 'content' -> 'm.new_content') = 'object')
  FROM events e
 WHERE e.event_nid = l.event_nid;
ALTER TABLE event_relations ALTER COLUMN sender_nid SET NOT NULL;
ALTER TABLE event_relations ALTER COLUMN replaces DROP DEFAULT;
DROP INDEX event_relations_target;
CREATE INDEX event_relations_target ON event_relations (relates_to, rel_type, ord) INCLUDE (sender_nid, room_nid);
CREATE INDEX event_relations_threads ON event_relations (room_nid, ord) INCLUDE (relates_to, sender_nid)
    WHERE rel_type = 'm.thread';

-- The texts that can be searched for, a row an event: bodies of messages (key 0), names (1) and topics (2) of rooms.
-- `text` is normalised (see storage/search_terms). `terms` has its words as full text search knows them, and its
-- pieces, each behind a `~`. The pieces are made by this server and not by pg_trgm: that extension needs a privilege,
-- and with the locale C, which the embedded database has, it drops every letter that is not ASCII.
CREATE TABLE event_search (
    event_nid  bigint PRIMARY KEY,
    room_nid   bigint NOT NULL,
    sender_nid bigint NOT NULL,
    ord        bigint NOT NULL,
    key        smallint NOT NULL,
    text       text NOT NULL,
    terms      tsvector NOT NULL
);
-- The pending list takes what is new; small, so that whoever has to empty it is not kept long.
CREATE INDEX event_search_terms ON event_search USING gin (terms) WITH (fastupdate = on, gin_pending_list_limit = 1024);

-- Users who can be found by name, with their names as they are now. Who may find whom is asked when someone searches.
CREATE TABLE user_directory (
    user_nid    bigint PRIMARY KEY REFERENCES users,
    displayname text,
    avatar_url  text,
    text        text NOT NULL,            -- name and id, normalised as above
    terms       tsvector NOT NULL
);
CREATE INDEX user_directory_terms ON user_directory USING gin (terms) WITH (fastupdate = on);

-- Users to look at again before the directory is next searched; the same one may be here many times. Filled by triggers,
-- so that neither a membership nor a profile can change past it; they add rows and wait for nobody.
CREATE TABLE user_directory_stale (
    user_nid bigint NOT NULL
);

CREATE FUNCTION user_directory_members_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid) SELECT DISTINCT user_nid FROM changed;
    RETURN NULL;
END
$$;
CREATE FUNCTION user_directory_members_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid)
    SELECT DISTINCT c.user_nid FROM changed c JOIN before b ON b.room_nid = c.room_nid AND b.user_nid = c.user_nid
     WHERE c.event_nid <> b.event_nid;
    RETURN NULL;
END
$$;
CREATE TRIGGER user_directory_added AFTER INSERT ON room_members REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION user_directory_members_added();
CREATE TRIGGER user_directory_changed AFTER UPDATE ON room_members
    REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION user_directory_members_changed();

CREATE FUNCTION user_directory_account_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO user_directory_stale (user_nid) VALUES (NEW.user_nid);
    RETURN NULL;
END
$$;
CREATE TRIGGER user_directory_account AFTER INSERT OR UPDATE OF displayname, avatar_url, deactivated ON accounts
    FOR EACH ROW EXECUTE FUNCTION user_directory_account_changed();

INSERT INTO user_directory_stale (user_nid) SELECT user_nid FROM accounts;
INSERT INTO user_directory_stale (user_nid) SELECT DISTINCT user_nid FROM room_members;
