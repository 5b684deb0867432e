// Sliding sync, as the library's SlidingSync and SlidingSyncSdk speak it.
//
// They send their lists whole each time but a subscription only once, so a room that is opened is to be in a list too.

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

import { ClientEvent, RoomType } from "matrix-js-sdk";
import { SlidingSync, SlidingSyncEvent, SlidingSyncState } from "matrix-js-sdk/lib/sliding-sync.js";

const LIST_STATE = [
    ...[["m.room.create", ""], ["m.room.name", ""], ["m.room.avatar", ""], ["m.room.encryption", ""]],
    ...[["m.room.tombstone", ""], ["m.room.join_rules", ""], ["m.room.canonical_alias", ""]],
    ...[["m.room.member", "$ME"], ["m.room.member", "$LAZY"], ["m.space.child", "*"]],
];
const OPEN_ROOM = { timeline_limit: 20, required_state: [["*", "*"]] };
const list = (last, more = {}) => ({ ranges: [[0, last]], timeline_limit: 1, required_state: LIST_STATE, ...more });

/** Starts a person's client with sliding sync; resolves with its connection once the first response is in. */
async function slide(person, lists = { all: list(49) }) {
    const { baseUrl } = person.client;
    const sliding = new SlidingSync(baseUrl, new Map(Object.entries(lists)), OPEN_ROOM, person.client, 10_000);
    sliding.responses = 0;
    sliding.on(SlidingSyncEvent.Lifecycle, (state, response) => {
        if (state === SlidingSyncState.Complete && response) sliding.responses += 1;
    });
    await person.start({ slidingSync: sliding });
    return sliding;
}

/** Makes rooms, some at a time. Returns their ids in no order. */
async function makeRooms(person, number, options = () => ({})) {
    const ids = [];
    for (let first = 0; first < number; first += 5) {
        const some = [...Array(Math.min(5, number - first)).keys()].map((each) => first + each);
        ids.push(...(await Promise.all(some.map((each) => person.createRoom({ name: `Room ${each}`, ...options(each) })))));
    }
    return ids;
}

const seesTexts = async (person, roomId, ...texts) => {
    const seen = () => person.room(roomId) && isDeepStrictEqual(person.texts(roomId), texts);
    await person.sees(seen).catch(() => assert.deepEqual(person.texts(roomId), texts));
};

export default {
    "An account with many rooms has the first of its list at once, and all when the list grows": async (cast) => {
        const alice = await cast.stranger("alice");
        const rooms = await makeRooms(alice, 60);
        const oldest = rooms[0];
        await alice.createRoom({ name: "A space", creation_content: { type: RoomType.Space } });
        const noSpaces = { filters: { not_room_types: ["m.space"] } };
        const spaces = { filters: { room_types: ["m.space"] } };
        const sliding = await slide(alice, { all: list(19, noSpaces), spaces: list(19, spaces) });
        assert.equal(sliding.getListData("all").joinedCount, 60);
        assert.equal(sliding.getListData("spaces").joinedCount, 1);
        assert.equal(alice.client.getRooms().length, 21);
        sliding.setListRanges("all", [[0, 39]]);
        await alice.sees(() => alice.client.getRooms().length === 41);
        sliding.setListRanges("all", [[0, 99]]);
        await alice.sees(() => alice.client.getRooms().length === 61);
        const names = alice.client.getRooms().filter((room) => !room.isSpaceRoom()).map((room) => room.name);
        assert.deepEqual(new Set(names), new Set([...Array(60).keys()].map((number) => `Room ${number}`)));
        assert.ok(alice.client.getRooms().every((room) => room.getMyMembership() === "join"));
        await alice.say(oldest, "up");
        await seesTexts(alice, oldest, "up");
        const newest = alice.client.getRooms().toSorted((one, other) => other.getBumpStamp() - one.getBumpStamp())[0];
        assert.equal(newest.roomId, oldest);
    },

    "Messages, state, typing, receipts, account data and counts come as they happen": async (cast) => {
        const [alice, bob] = [await cast.stranger("alice"), await cast.person("bob")];
        await slide(alice);
        const roomId = await bob.createRoom({ name: "Tea room", invite: [alice.id] });
        await alice.isIn(roomId, "invite");
        assert.equal(alice.room(roomId).name, "Tea room");
        await alice.client.joinRoom(roomId);
        await alice.isIn(roomId);
        await alice.seesEvent(roomId, await bob.say(roomId, "one")); // the list has only the newest
        const mention = await bob.say(roomId, "two", { "m.mentions": { user_ids: [alice.id] } });
        await alice.seesEvent(roomId, mention);
        assert.deepEqual(alice.texts(roomId).slice(-2), ["one", "two"]);
        const room = alice.room(roomId);
        await alice.sees(() => room.getUnreadNotificationCount() === 2);
        assert.equal(room.getUnreadNotificationCount("highlight"), 1);
        await alice.client.sendReadReceipt(room.findEventById(mention));
        await alice.sees(() => room.getUnreadNotificationCount() === 0);
        await bob.sees(() => bob.room(roomId).getEventReadUpTo(alice.id) === mention);
        await bob.client.sendTyping(roomId, true, 20_000);
        await alice.sees(() => room.getMember(bob.id)?.typing);
        const reply = await alice.say(roomId, "three");
        await bob.client.sendReadReceipt(await bob.seesEvent(roomId, reply));
        await alice.sees(() => room.getEventReadUpTo(bob.id) === reply);
        await bob.client.setRoomName(roomId, "Coffee room");
        await alice.sees(() => room.name === "Coffee room");
        await alice.client.setRoomTag(roomId, "m.favourite", { order: 0.1 });
        await alice.sees(() => room.tags["m.favourite"]);
        await alice.client.setAccountData("org.example.theme", { dark: true });
        await alice.sees(() => alice.client.getAccountData("org.example.theme")?.getContent().dark);
        const heard = new Promise((resolve) => alice.client.on(ClientEvent.ToDeviceEvent, resolve));
        await bob.client.sendToDevice("org.example.ping", new Map([[alice.id, new Map([["*", { hello: 1 }]])]]));
        assert.equal((await heard).getContent().hello, 1);
        await bob.client.kick(roomId, alice.id, "Closed");
        await alice.isIn(roomId, "leave");
    },

    "A room that is opened has more of its timeline and all of its state, and reads back to its beginning": async (cast) => {
        const alice = await cast.stranger("alice");
        const bob = await cast.stranger("bob");
        const [roomId] = await makeRooms(alice, 1, () => ({ invite: [bob.id], topic: "Cake" }));
        await bob.client.joinRoom(roomId);
        for (let number = 0; number < 50; number += 1) await alice.say(roomId, `line ${number}`);
        const sliding = await slide(bob);
        const lines = (first, last = 49) => [...Array(last + 1).keys()].slice(first).map((number) => `line ${number}`);
        assert.deepEqual(bob.texts(roomId), lines(49));
        assert.equal(bob.state(roomId, "m.room.topic"), undefined);
        sliding.modifyRoomSubscriptions(new Set([roomId]));
        await seesTexts(bob, roomId, ...lines(30));
        await bob.sees(() => bob.state(roomId, "m.room.topic")?.topic === "Cake");
        await alice.say(roomId, "line 50");
        await seesTexts(bob, roomId, ...lines(30, 50));
        const room = bob.room(roomId);
        for (let page = 0; page < 30 && room.oldState.paginationToken !== null; page += 1) {
            await bob.client.scrollback(room, 10);
        }
        assert.deepEqual(bob.texts(roomId), lines(0, 50));
        sliding.modifyRoomSubscriptions(new Set());
        await alice.say(roomId, "line 51");
        await seesTexts(bob, roomId, ...lines(0, 51));
    },

    "A client whose position is unknown starts anew, and misses nothing": async (cast) => {
        const [alice, bob] = [await cast.stranger("alice"), await cast.stranger("bob")];
        const [roomId] = await makeRooms(alice, 1, () => ({ invite: [bob.id] }));
        await bob.client.joinRoom(roomId);
        const sliding = await slide(bob, { all: list(9, { timeline_limit: 10 }) });
        await alice.say(roomId, "before");
        await seesTexts(bob, roomId, "before");
        const before = sliding.responses;
        let refused;
        sliding.on(SlidingSyncEvent.Lifecycle, (state, response, error) => {
            if (error) refused = error.errcode;
        });
        // Another connection of the same device and name takes its place, unless it comes at a bad moment.
        while (!refused) await bob.client.slidingSync({ lists: {} }, bob.client.baseUrl).catch(() => null);
        await alice.say(roomId, "meanwhile");
        assert.equal(refused, "M_UNKNOWN_POS");
        await alice.say(roomId, "after");
        await seesTexts(bob, roomId, "before", "meanwhile", "after");
        await bob.sees(() => sliding.responses > before && bob.client.getSyncState() === "SYNCING");
    },

    "Two clients with sliding sync write to each other in an encrypted room": async (cast) => {
        const [alice, bob] = [await cast.stranger("alice"), await cast.stranger("bob")];
        for (const person of [alice, bob]) {
            await person.client.initRustCrypto({ useIndexedDB: false });
            await slide(person);
        }
        const encryption = { type: "m.room.encryption", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        const roomId = await alice.createRoom({ invite: [bob.id], initial_state: [{ ...encryption, state_key: "" }] });
        await bob.isIn(roomId, "invite");
        await bob.client.joinRoom(roomId);
        await bob.isIn(roomId);
        await alice.sees(() => alice.room(roomId).getMember(bob.id)?.membership === "join");
        const said = [];
        for (const [speaker, text] of [[alice, "secret one"], [bob, "secret two"], [alice, "secret three"]]) {
            const eventId = await speaker.say(roomId, text);
            said.push(text);
            for (const person of [alice, bob]) {
                const event = await person.seesEvent(roomId, eventId);
                await person.sees(() => event.getContent().body === text);
                assert.equal(event.getWireType(), "m.room.encrypted");
            }
        }
        for (const person of [alice, bob]) assert.deepEqual(person.texts(roomId), said);
    },

    "Threads, edits and reactions are put together as with any other sync": async (cast) => {
        const [alice, bob] = [await cast.stranger("alice"), await cast.stranger("bob")];
        const [roomId] = await makeRooms(alice, 1, () => ({ invite: [bob.id] }));
        await bob.client.joinRoom(roomId);
        await slide(bob, { all: list(9, { timeline_limit: 20 }) });
        const root = await alice.say(roomId, "Cake?");
        await bob.seesEvent(roomId, root);
        const relation = { rel_type: "m.thread", event_id: root };
        await alice.say(roomId, "Lemon", { "m.relates_to": relation });
        const replacement = { rel_type: "m.replace", event_id: root };
        const edited = { msgtype: "m.text", body: "Cake!" };
        await alice.say(roomId, "* Cake!", { "m.new_content": edited, "m.relates_to": replacement });
        const key = { "m.relates_to": { rel_type: "m.annotation", event_id: root, key: "🍰" } };
        await alice.client.sendEvent(roomId, "m.reaction", key);
        await bob.sees(() => bob.room(roomId).findEventById(root).getContent().body === "Cake!");
        const { relations } = bob.room(roomId).getUnfilteredTimelineSet();
        await bob.sees(() => relations.getChildEventsForEvent(root, "m.annotation", "m.reaction")?.getRelations().length);
        const { unsigned } = await bob.client.fetchRoomEvent(roomId, root);
        assert.equal(unsigned["m.relations"]["m.thread"].count, 1);
        await alice.client.redactEvent(roomId, root);
        await bob.sees(() => bob.room(roomId).findEventById(root).isRedacted());
    },

    "Invitations, spaces and direct chats are told apart by lists, and move between them": async (cast) => {
        const [alice, bob] = [await cast.stranger("alice"), await cast.stranger("bob")];
        const space = await alice.createRoom({ name: "Space", creation_content: { type: RoomType.Space } });
        const plain = await alice.createRoom({ name: "Plain" });
        const sliding = await slide(alice, {
            invites: list(9, { filters: { is_invite: true } }),
            spaces: list(9, { filters: { room_types: ["m.space"] } }),
            people: list(9, { filters: { is_dm: true } }),
            rooms: list(9, { filters: { is_dm: false, is_invite: false, not_room_types: ["m.space"] } }),
        });
        const counts = () => ["invites", "spaces", "people", "rooms"].map((name) => sliding.getListData(name).joinedCount);
        const sees = (...expected) =>
            alice.sees(() => isDeepStrictEqual(counts(), expected)).catch(() => assert.deepEqual(counts(), expected));
        await sees(0, 1, 0, 1);
        const { room_id: direct } = await bob.client.createRoom({ invite: [alice.id], is_direct: true });
        await alice.isIn(direct, "invite");
        await sees(1, 1, 0, 1);
        await alice.client.joinRoom(direct);
        await alice.isIn(direct);
        await sees(0, 1, 0, 2);
        await alice.client.setAccountData("m.direct", { [bob.id]: [direct] });
        await sees(0, 1, 1, 1);
        for (const left of [plain, space]) {
            await alice.client.leave(left);
            await alice.isIn(left, "leave");
        }
        await sees(0, 1, 1, 1); // a connection lists what it has told of
    },
};
