// Rooms among rooms: spaces, search, upgrades, who may join, the directory.

import assert from "node:assert/strict";

import { Direction, JoinRule, RoomType, TimelineWindow } from "matrix-js-sdk";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";

import { refused } from "../people.mjs";

const serverName = (person) => person.id.slice(person.id.indexOf(":") + 1);

const addChild = (person, space, child, content = {}) =>
    person.client.sendStateEvent(space, "m.space.child", { via: [serverName(person)], ...content }, child);

/** The texts in a window on a timeline. */
const messages = (window) =>
    window
        .getEvents()
        .filter((event) => event.getType() === "m.room.message")
        .map((event) => event.getContent().body);

export default {
    "A space lists its rooms and those of the spaces in it, a page at a time, for those who may know": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const space = (name, more) =>
            alice.createRoom({ preset: "public_chat", name, creation_content: { type: RoomType.Space }, ...more });
        const [root, inner] = [await space("House"), await space("Garden")];
        const kitchen = await alice.createRoom({ preset: "public_chat", name: "Kitchen", topic: "Food" });
        const shed = await alice.createRoom({ preset: "public_chat", name: "Shed" });
        const cellar = await alice.createRoom({ name: "Cellar" });
        await addChild(alice, root, kitchen, { suggested: true, order: "b" });
        await addChild(alice, root, inner, { order: "a" });
        await addChild(alice, root, cellar, { order: "c" });
        await addChild(alice, inner, shed);
        await addChild(alice, inner, root); // round in a circle
        await bob.client.joinRoom(root);
        await bob.isIn(root);
        assert.ok(bob.room(root).isSpaceRoom());

        const listed = async (person, ...options) => {
            const hierarchy = new RoomHierarchy(person.room(root), ...options);
            while (hierarchy.canLoadMore) await hierarchy.load();
            return hierarchy;
        };
        const hierarchy = await listed(bob, 2);
        const names = hierarchy.rooms.map((room) => room.name);
        assert.deepEqual(names, ["House", "Garden", "Shed", "Kitchen"]);
        assert.equal(hierarchy.isSuggested(root, kitchen), true);
        assert.deepEqual([...hierarchy.viaMap.get(shed)], [serverName(alice)]);
        assert.deepEqual(hierarchy.backRefs.get(root), [inner]);
        const found = hierarchy.roomMap.get(kitchen);
        assert.equal(found.topic, "Food");
        assert.equal(found.num_joined_members, 1);
        assert.equal(found.join_rule, "public");
        const count = async (...which) => (await listed(...which)).rooms.length;
        assert.equal(await count(alice, 50), 5, "the private room is for its members to see");
        assert.equal(await count(bob, 50, 1), 3, "no deeper than asked for");
        assert.deepEqual((await listed(bob, 50, undefined, true)).rooms.map((room) => room.name), ["House", "Kitchen"]);

        await alice.client.sendStateEvent(root, "m.space.child", {}, inner);
        assert.deepEqual((await listed(bob, 50)).rooms.map((room) => room.name), ["House", "Kitchen"]);
    },

    "Search finds words with what stands around them, the newest first, a page at a time": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({ name: "Recipes" }, [bob]);
        const apart = await alice.createRoom({ name: "Elsewhere" });
        for (let number = 0; number < 25; number += 1) await alice.say(roomId, `rhubarb ${number}`);
        await alice.say(apart, "rhubarb in secret");
        const wrong = await alice.say(roomId, "custard");
        const relation = { rel_type: "m.replace", event_id: wrong };
        const content = { "m.new_content": { msgtype: "m.text", body: "quince" }, "m.relates_to": relation };
        await alice.say(roomId, "* quince", content);
        const gone = await alice.say(roomId, "rhubarb that nobody should know of");
        await alice.client.redactEvent(roomId, gone);

        const texts = (results) => results.results.map((result) => result.context.getEvent().getContent().body);
        const results = await bob.client.searchRoomEvents({ term: "rhubarb" });
        assert.equal(results.count, 25);
        while (results.next_batch) await bob.client.backPaginateRoomEventsSearch(results);
        assert.deepEqual(texts(results), [...Array(25).keys()].reverse().map((number) => `rhubarb ${number}`));
        const around = results.results[3].context.getTimeline().map((event) => event.getContent().body);
        assert.deepEqual(around, ["rhubarb 20", "rhubarb 21", "rhubarb 22"]);
        assert.ok(results.highlights.includes("rhubarb"));
        assert.equal(results.results[3].context.getEvent().sender.userId, alice.id);

        const here = { rooms: [apart] };
        assert.deepEqual(texts(await alice.client.searchRoomEvents({ term: "rhubarb", filter: here })), [
            "rhubarb in secret",
        ]);
        assert.deepEqual(texts(await bob.client.searchRoomEvents({ term: "rhubarb", filter: here })), []);
        const edited = await bob.client.searchRoomEvents({ term: "quince" });
        assert.ok(edited.count >= 1, "what a message now says is found");
        assert.ok(texts(edited).every((text) => text.includes("quince")));
    },

    "An upgraded room has a tombstone that leads to its successor, which knows where it comes from": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const old = await alice.createRoom({ preset: "public_chat", name: "Office", room_version: "10" }, [bob]);
        await alice.client.setPowerLevel(old, bob.id, 40);
        const { replacement_room: next } = await alice.client.upgradeRoom(old, "11");
        await bob.sees(() => bob.state(old, "m.room.tombstone")?.replacement_room === next);
        await bob.client.joinRoom(next, { viaServers: [serverName(alice)] });
        await bob.isIn(next);
        const room = bob.room(next);
        assert.equal(room.getVersion(), "11");
        assert.equal(room.name, "Office");
        assert.equal(room.findPredecessor().roomId, old);
        assert.equal(room.getMember(bob.id).powerLevel, 40);
        const history = bob.client.getRoomUpgradeHistory(old, true);
        assert.deepEqual(history.map((each) => each.roomId), [old, next]);
        assert.deepEqual(bob.client.getVisibleRooms().map((each) => each.roomId), [next]);
        assert.equal(await refused(bob.say(old, "Anybody there?")), "M_FORBIDDEN");
    },

    "Who may not join knocks; who is in the right space joins without being asked": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const { room_id: space } = await alice.client.createRoom({
            preset: "public_chat",
            creation_content: { type: RoomType.Space },
        });
        const rule = (content) => [{ type: "m.room.join_rules", state_key: "", content }];
        const knocking = await alice.createRoom({ name: "Club", initial_state: rule({ join_rule: JoinRule.Knock }) });
        const allow = [{ type: "m.room_membership", room_id: space }];
        const restricted = await alice.createRoom({
            name: "Back room",
            initial_state: rule({ join_rule: JoinRule.Restricted, allow }),
        });
        for (const roomId of [knocking, restricted]) {
            assert.equal(await refused(bob.client.joinRoom(roomId)), "M_FORBIDDEN");
        }
        await bob.client.knockRoom(knocking, { reason: "It rains" });
        await bob.isIn(knocking, "knock");
        assert.equal(bob.room(knocking).name, "Club");
        const knock = await alice.sees(() => {
            const member = alice.room(knocking).getMember(bob.id);
            return member?.membership === "knock" && member;
        });
        assert.equal(knock.events.member.getContent().reason, "It rains");
        await alice.client.invite(knocking, bob.id);
        await bob.isIn(knocking, "invite");
        await bob.client.joinRoom(knocking);
        await bob.isIn(knocking);
        await bob.client.joinRoom(space);
        await bob.client.joinRoom(restricted);
        await bob.isIn(restricted);
        const summary = await bob.client.getRoomSummary(restricted);
        assert.equal(summary.join_rule, "restricted");
        assert.deepEqual(summary.allowed_room_ids, [space]);
        assert.equal(summary.membership, "join");
    },

    "Who is invited sees to what, who is kicked is out, who is banned stays out, who forgets has never been": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({ name: "Party", invite: [bob.id], is_direct: true });
        await bob.isIn(roomId, "invite");
        assert.equal(bob.room(roomId).name, "Party");
        assert.equal(bob.room(roomId).getDMInviter(), alice.id);
        await bob.client.joinRoom(roomId);
        await bob.isIn(roomId);
        await alice.client.kick(roomId, bob.id, "Not tonight");
        await bob.isIn(roomId, "leave");
        await alice.client.ban(roomId, bob.id, "Nor ever");
        await bob.isIn(roomId, "ban");
        assert.equal(await refused(bob.client.joinRoom(roomId)), "M_FORBIDDEN");
        await alice.client.unban(roomId, bob.id);
        await bob.isIn(roomId, "leave");
        await bob.client.forget(roomId);
        assert.equal(bob.room(roomId), null);
        await alice.client.invite(roomId, bob.id);
        await bob.isIn(roomId, "invite");
        await bob.client.leave(roomId);
        await bob.isIn(roomId, "leave");
    },

    "Public rooms stand in the directory, are found by words, and have aliases": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const word = alice.id.slice(1, alice.id.indexOf(":"));
        const alias = `#${word}:${serverName(alice)}`;
        const roomId = await alice.createRoom({ preset: "public_chat", name: `Choir of ${word}`, room_alias_name: word });
        const search = () => bob.client.publicRooms({ limit: 10, filter: { generic_search_term: word } });
        assert.deepEqual((await search()).chunk, []);
        await alice.client.setRoomDirectoryVisibility(roomId, "public");
        const [found] = (await search()).chunk;
        assert.equal(found.room_id, roomId);
        assert.equal(found.canonical_alias, alias);
        assert.equal((await bob.client.getRoomIdForAlias(alias)).room_id, roomId);
        assert.equal((await bob.client.joinRoom(alias)).roomId, roomId);
        await bob.isIn(roomId);
        assert.equal(bob.room(roomId).getCanonicalAlias(), alias);
        await alice.client.createAlias(`#${word}-2:${serverName(alice)}`, roomId);
        const { aliases } = await bob.client.getLocalAliases(roomId);
        assert.deepEqual(aliases.sort(), [alias, `#${word}-2:${serverName(alice)}`].sort());
        assert.equal(await refused(bob.client.deleteAlias(alias)), "M_FORBIDDEN");
        await alice.client.deleteAlias(alias);
        assert.equal(await refused(bob.client.getRoomIdForAlias(alias)), "M_NOT_FOUND");
    },

    "Members come as they are needed, and all of them when they are asked for": async (cast) => {
        const alice = await cast.person("alice");
        const roomId = await alice.createRoom({ preset: "public_chat", name: "Hall" });
        const others = await Promise.all([..."bcdefg"].map((letter) => cast.stranger(letter)));
        for (const other of others) await other.client.joinRoom(roomId);
        for (let number = 0; number < 25; number += 1) await others[0].say(roomId, `line ${number}`);
        const late = await cast.person("late");
        await late.client.joinRoom(roomId);
        await late.isIn(roomId);
        const room = late.room(roomId);
        const known = room.getMembers().map((member) => member.userId).sort();
        assert.deepEqual(known, [late.id, others[0].id].sort());
        assert.equal(room.getJoinedMemberCount(), 8);
        await room.loadMembersIfNeeded();
        assert.equal(room.getJoinedMembers().length, 8);
        await alice.client.kick(roomId, others[5].id);
        await late.sees(() => room.getJoinedMembers().length === 7);
        await others[1].client.setDisplayName("Charlie");
        await late.sees(() => room.getMember(others[1].id).name === "Charlie");
    },

    "A gap is filled from both ends, an old event is found by its date and shown where it stands": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const first = await alice.say(roomId, "first");
        await bob.seesEvent(roomId, first);
        bob.goOffline();
        for (let number = 0; number < 60; number += 1) await alice.say(roomId, `line ${number}`);
        bob.goOnline();
        await bob.sees(() => bob.texts(roomId).at(-1) === "line 59");
        assert.ok(!bob.texts(roomId).includes("line 3"), "there is a gap");
        const room = bob.room(roomId);
        const expected = ["first", ...[...Array(60).keys()].map((number) => `line ${number}`)];
        const filled = new TimelineWindow(bob.client, room.getUnfilteredTimelineSet(), { windowLimit: 200 });
        await filled.load(undefined, 9);
        while (filled.canPaginate(Direction.Backward)) await filled.paginate(Direction.Backward, 9);
        assert.deepEqual(messages(filled), expected);

        const { origin_server_ts: sent } = await bob.client.fetchRoomEvent(roomId, first);
        const { event_id: nearest } = await bob.client.timestampToEvent(roomId, sent, "f");
        assert.equal(nearest, first);
        const late = await cast.person("carol");
        await alice.client.invite(roomId, late.id);
        await late.client.joinRoom(roomId);
        await late.isIn(roomId);
        const set = late.room(roomId).getUnfilteredTimelineSet();
        const around = new TimelineWindow(late.client, set, { windowLimit: 200 });
        await around.load(first, 6);
        assert.equal(messages(around)[0], "first");
        while (await around.paginate(Direction.Forward, 8)) {}
        assert.deepEqual(messages(around), expected);
    },

    "A room that all the world may read is looked into without joining, and what is said there heard": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const readable = { type: "m.room.history_visibility", content: { history_visibility: "world_readable" } };
        const initial = { initial_state: [{ ...readable, state_key: "" }] };
        const roomId = await alice.createRoom({ preset: "public_chat", name: "Window", ...initial });
        await alice.say(roomId, "before");
        const room = await bob.client.peekInRoom(roomId, 5);
        const shown = () => room.getLiveTimeline().getEvents().map((event) => event.getContent().body);
        assert.equal(room.name, "Window");
        assert.equal(shown().at(-1), "before");
        await alice.say(roomId, "while he looks");
        await bob.sees(() => shown().at(-1) === "while he looks");
        bob.client.stopPeeking();
        const closed = await alice.createRoom({ preset: "public_chat" });
        assert.equal(await refused(bob.client.peekInRoom(closed)), "M_FORBIDDEN");
    },

    "Rooms that one has left are there when they are asked for, as they were then": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.stranger("bob")];
        const roomId = await alice.createRoom({ name: "Old times" }, [bob]);
        await alice.say(roomId, "Remember?");
        await bob.client.leave(roomId);
        await alice.client.setRoomName(roomId, "New times");
        await bob.start();
        assert.equal(bob.room(roomId), null);
        const [left] = await bob.client.syncLeftRooms();
        assert.equal(left.roomId, roomId);
        assert.equal(left.getMyMembership(), "leave");
        assert.equal(left.name, "Old times");
        await bob.client.scrollback(left, 30);
        assert.ok(bob.texts(roomId).includes("Remember?"));
    },

    "State that changed while one was away is what the server has, whatever the timeline shows of it": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const [carol, dave] = [await cast.stranger("carol"), await cast.stranger("dave")];
        const roomId = await alice.createRoom({ topic: "Before" }, [bob, carol, dave]);
        await carol.say(roomId, "I was here");
        await bob.sees(() => bob.texts(roomId).length === 1);
        await bob.room(roomId).loadMembersIfNeeded();
        bob.goOffline();
        await alice.client.setRoomTopic(roomId, "After");
        await alice.client.kick(roomId, carol.id);
        await alice.client.sendStateEvent(roomId, "org.example.mood", { mood: "good" }, "");
        for (let number = 0; number < 30; number += 1) await alice.say(roomId, `line ${number}`);
        await alice.client.setRoomName(roomId, "In sight");
        await alice.client.setPowerLevel(roomId, dave.id, 50);
        bob.goOnline();
        await bob.sees(() => bob.texts(roomId).includes("line 29"));
        assert.ok(!bob.texts(roomId).includes("line 3"), "there is a gap");
        for (const event of await alice.client.roomState(roomId)) {
            // The library adds fields that are undefined.
            const content = JSON.parse(JSON.stringify(bob.state(roomId, event.type, event.state_key)));
            assert.deepEqual(content, event.content, event.type);
        }
        const room = bob.room(roomId);
        assert.equal(room.name, "In sight");
        assert.equal(room.getMember(carol.id).membership, "leave");
        assert.equal(room.getMember(dave.id).powerLevel, 50);
        assert.equal(room.getJoinedMemberCount(), 3);
    },
};
