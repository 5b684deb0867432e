// Threads, as matrix-js-sdk keeps them: their replies, their list, what is unread in them.

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

import { Direction, NotificationCountType, ThreadEvent, ThreadFilterType } from "matrix-js-sdk";

import { until } from "../until.mjs";

/** Sends a text into the thread of an event, which it may begin, as Element does. Returns the event id. */
async function answer(person, roomId, root, body, more = {}) {
    const event = await person.seesEvent(roomId, root);
    const room = person.room(roomId);
    if (!room.getThread(root)) room.createThread(root, event, [], false);
    return (await person.client.sendMessage(roomId, root, { msgtype: "m.text", body, ...more })).event_id;
}

/** A room of these two with a thread of three replies, the last of them by the first person; both have seen all. */
async function threaded(alice, bob) {
    const roomId = await alice.createRoom({}, [bob]);
    const root = await alice.say(roomId, "Cake?");
    const ids = [];
    for (const [speaker, text] of [[bob, "Which?"], [bob, "When?"], [alice, "Lemon, at four"]]) {
        ids.push(await answer(speaker, roomId, root, text));
        // Else one's own reply would come before those that have not been heard of.
        for (const listener of [alice, bob]) await listener.seesEvent(roomId, ids.at(-1));
    }
    return { roomId, root, ids };
}

const bodies = (events) => events.map((event) => event.getContent().body);

/** The replies of a thread as a client has them. Its `length` is no help: the library counts what races in twice. */
function replies(person, roomId, root) {
    const events = person.room(roomId)?.getThread(root)?.events ?? [];
    return bodies(events.filter((event) => event.isRelation("m.thread") && !event.isRedacted()));
}

const seesReplies = (person, roomId, root, ...expected) =>
    person.sees(() => isDeepStrictEqual(replies(person, roomId, root), expected));

/** How many replies the server says there are. */
async function count(person, roomId, root) {
    const event = await person.client.fetchRoomEvent(roomId, root);
    return event.unsigned["m.relations"]["m.thread"].count;
}

export default {
    "Replies stand in their thread, not in the room, for who was there and for who comes anew": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const { roomId, root, ids } = await threaded(alice, bob);
        for (const person of [alice, bob]) {
            await seesReplies(person, roomId, root, "Which?", "When?", "Lemon, at four");
            assert.deepEqual(person.texts(roomId), ["Cake?"]);
            assert.equal(person.room(roomId).getThread(root).hasCurrentUserParticipated, true);
        }

        // Somebody new, whose first sync no longer has the thread in it.
        const carol = await cast.person("carol");
        for (let number = 0; number < 30; number += 1) await alice.say(roomId, `more ${number}`);
        await alice.client.invite(roomId, carol.id);
        await carol.client.joinRoom(roomId);
        await carol.isIn(roomId);
        const room = carol.room(roomId);
        assert.equal(room.getThread(root), null);
        await carol.client.getEventTimeline(room.getUnfilteredTimelineSet(), root);
        const found = await carol.sees(() => room.getThread(root));
        await until(found, ThreadEvent.Update, () => found.initialEventsFetched);
        assert.equal(found.length, 3);
        assert.equal(found.hasCurrentUserParticipated, false);
        assert.equal(found.replyToEvent.getContent().body, "Lemon, at four");
        while (await carol.client.paginateEventTimeline(found.liveTimeline, { backwards: true, limit: 2 })) {}
        assert.deepEqual(bodies(found.timeline), ["Cake?", "Which?", "When?", "Lemon, at four"]);
    },

    "The list of threads comes with the newest first, a page at a time, all or those one took part in": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const roots = [];
        for (let number = 0; number < 25; number += 1) {
            roots.push(await alice.say(roomId, `topic ${number}`));
            await answer(number % 5 ? alice : bob, roomId, roots[number], `answer ${number}`);
        }
        await answer(bob, roomId, roots[0], "once more");
        const topics = (numbers) => numbers.map((number) => `topic ${number}`);
        const [newest, his] = [[0, ...[...roots.keys()].slice(1).reverse()], [0, 20, 15, 10, 5]].map(topics);
        for (const [kind, expected] of [[ThreadFilterType.All, newest], [ThreadFilterType.My, his]]) {
            const listed = [];
            let from = null;
            do {
                const page = await bob.client.createThreadListMessagesRequest(roomId, from, 3, Direction.Backward, kind);
                assert.ok(page.chunk.length <= 3);
                listed.push(...page.chunk.toReversed().map((event) => event.content.body));  // the library turns pages round
                from = page.end;
            } while (from);
            assert.deepEqual(listed, expected);
        }
        // The library puts what it loads in an order of its own.
        const room = bob.room(roomId);
        const sets = await room.createThreadsTimelineSets();
        await room.fetchRoomThreads();
        for (const [set, expected] of [[sets[0], newest], [sets[1], his]]) {
            while (await bob.client.paginateEventTimeline(set.getLiveTimeline(), { backwards: true, limit: 7 })) {}
            assert.deepEqual(bodies(set.getLiveTimeline().getEvents()).sort(), expected.toSorted());
        }
    },

    "What is unread is counted for each thread and the room apart, and read apart": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const { roomId, root, ids } = await threaded(alice, bob);
        const room = await bob.sees(() => bob.room(roomId));
        const unread = (type = NotificationCountType.Total) => [
            room.getRoomUnreadNotificationCount(type),
            room.getThreadUnreadNotificationCount(root, type),
        ];
        await answer(bob, roomId, root, "mine");
        await bob.client.sendReadReceipt(await bob.seesEvent(roomId, root));
        await bob.sees(() => room.getThread(root) && unread().join() === "0,0");

        const thirsty = await alice.say(roomId, "Tea!");
        const mention = await answer(alice, roomId, root, "Coffee?", { "m.mentions": { user_ids: [bob.id] } });
        await bob.sees(() => unread().join() === "1,1");
        assert.deepEqual(unread(NotificationCountType.Highlight), [0, 1]);
        assert.equal(room.getUnreadNotificationCount(), 2);

        const reply = await bob.sees(() => room.getThread(root).events.find((event) => event.getId() === mention));
        await bob.client.sendReadReceipt(reply);
        await bob.sees(() => unread().join() === "1,0");
        await bob.client.sendReadReceipt(await bob.seesEvent(roomId, thirsty));
        await bob.sees(() => unread().join() === "0,0");
    },

    "An edit of a thread's reply, a reaction to it and its redaction change the thread": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const { roomId, root, ids } = await threaded(alice, bob);
        for (const person of [alice, bob]) await seesReplies(person, roomId, root, "Which?", "When?", "Lemon, at four");
        const relation = { rel_type: "m.replace", event_id: ids[1] };
        await bob.say(roomId, "* When, please?", {
            "m.new_content": { msgtype: "m.text", body: "When, please?" },
            "m.relates_to": relation,
        });
        for (const person of [alice, bob]) {
            await seesReplies(person, roomId, root, "Which?", "When, please?", "Lemon, at four");
        }
        const reaction = { "m.relates_to": { rel_type: "m.annotation", event_id: ids[1], key: "👍" } };
        await alice.client.sendEvent(roomId, "m.reaction", reaction);
        await bob.sees(() => {
            const relations = bob.room(roomId).getThread(root)?.timelineSet.relations;
            const found = relations?.getChildEventsForEvent(ids[1], "m.annotation", "m.reaction");
            return found?.getSortedAnnotationsByKey()?.[0]?.[0] === "👍";
        });
        assert.equal(await count(alice, roomId, root), 3);
        await alice.client.redactEvent(roomId, ids[2]);
        await seesReplies(bob, roomId, root, "Which?", "When, please?");
        assert.equal(await count(bob, roomId, root), 2);
        const { chunk } = await alice.client.fetchRelations(roomId, root, "m.thread", null, { dir: "f" });
        assert.deepEqual(
            chunk.map((event) => event.unsigned["m.relations"]?.["m.replace"].content["m.new_content"].body ?? event.content.body),
            ["Which?", "When, please?"],
        );
    },
};
