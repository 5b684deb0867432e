// What relates to messages: edits, reactions, replies, pins, redactions, polls.

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

import { RelationType } from "matrix-js-sdk";
import { PollEndEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollEndEvent.js";
import { PollResponseEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollResponseEvent.js";
import { PollStartEvent } from "matrix-js-sdk/lib/extensible_events_v1/PollStartEvent.js";

const edit = (eventId, body) => ({
    "m.new_content": { msgtype: "m.text", body },
    "m.relates_to": { rel_type: "m.replace", event_id: eventId },
});

const react = async (person, roomId, eventId, key) => {
    const content = { "m.relates_to": { rel_type: "m.annotation", event_id: eventId, key } };
    return (await person.client.sendEvent(roomId, "m.reaction", content)).event_id;
};

/** Reactions to an event as a client has put them together: [[key, [who, ...]], ...], the most frequent first. */
function reactions(person, roomId, eventId) {
    const { relations } = person.room(roomId).getUnfilteredTimelineSet();
    const found = relations.getChildEventsForEvent(eventId, RelationType.Annotation, "m.reaction");
    const sorted = (found?.getSortedAnnotationsByKey() ?? []).filter(([, events]) => events.size > 0);
    return sorted.map(([key, events]) => [key, [...events].map((event) => event.getSender()).sort()]);
}

/** Waits until `actual()` is `expected`, and says how it differs if it never is. */
async function sees(person, actual, expected) {
    try {
        await person.sees(() => isDeepStrictEqual(actual(), expected));
    } catch {
        assert.deepEqual(actual(), expected);
    }
}

const seesTexts = (person, roomId, ...texts) => sees(person, () => person.texts(roomId), texts);
const seesReactions = (person, roomId, eventId, expected) =>
    sees(person, () => reactions(person, roomId, eventId), expected);

export default {
    "An edit replaces the text for who is there, who comes later, and who asks for the event": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({ preset: "public_chat" }, [bob]);
        const original = await alice.say(roomId, "Heloo");
        await alice.say(roomId, "* Hello", edit(original, "Hello"));
        await alice.say(roomId, "* Hello!", edit(original, "Hello!"));
        await bob.say(roomId, "* Nonsense", edit(original, "Nonsense"));
        await bob.say(roomId, "Hi");
        for (const person of [alice, bob]) {
            await person.sees(() => person.texts(roomId).includes("Hi"));
            const shown = person.room(roomId).findEventById(original);
            assert.equal(shown.getContent().body, "Hello!");
            assert.equal(shown.getOriginalContent().body, "Heloo");
        }
        const carol = await cast.person("carol");
        await carol.client.joinRoom(roomId);
        const late = await carol.seesEvent(roomId, original);
        await carol.sees(() => late.getContent().body === "Hello!");
        const { originalEvent, events } = await carol.client.relations(roomId, original, "m.replace", "m.room.message");
        assert.equal(originalEvent.getOriginalContent().body, "Heloo", "an edited event is itself what was sent at first");
        // The library drops those of others.
        assert.deepEqual(events.map((event) => event.getContent()["m.new_content"].body), ["Hello!", "Hello"]);
        const raw = await carol.client.fetchRoomEvent(roomId, original);
        assert.equal(raw.unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "Hello!");
        await alice.client.redactEvent(roomId, events[0].getId());
        await bob.sees(() => bob.room(roomId).findEventById(original).getContent().body === "Hello");
        const after = await carol.client.fetchRoomEvent(roomId, original);
        assert.equal(after.unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "Hello");
    },

    "Reactions are put together by key, given once each, and taken back": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const said = await alice.say(roomId, "Cake is ready");
        await react(alice, roomId, said, "👍");
        const cake = await react(alice, roomId, said, "🍰");
        await react(bob, roomId, said, "👍");
        const both = [["👍", [alice.id, bob.id].sort()], ["🍰", [alice.id]]];
        for (const person of [alice, bob]) {
            await seesReactions(person, roomId, said, both);
        }
        await alice.client.redactEvent(roomId, cake);
        for (const person of [alice, bob]) {
            await seesReactions(person, roomId, said, both.slice(0, 1));
        }
        const { chunk } = await bob.client.fetchRelations(roomId, said, "m.annotation", "m.reaction");
        assert.equal(chunk.length, 2);
        await assert.rejects(react(bob, roomId, said, "👍"), { errcode: "M_DUPLICATE_ANNOTATION" });
    },

    "A reply quotes, a pin is found, a redaction leaves nothing of either": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const asked = await alice.say(roomId, "Who takes the key?");
        const reply = await bob.say(roomId, "Me", { "m.relates_to": { "m.in_reply_to": { event_id: asked } } });
        const shown = await alice.seesEvent(roomId, reply);
        assert.equal(shown.replyEventId, asked);
        await alice.client.sendStateEvent(roomId, "m.room.pinned_events", { pinned: [asked, reply] });
        await bob.sees(() => bob.state(roomId, "m.room.pinned_events")?.pinned.length === 2);
        await alice.client.redactEvent(roomId, asked, undefined, { reason: "Said too much" });
        const gone = await bob.sees(() => {
            const event = bob.room(roomId).findEventById(asked);
            return event?.isRedacted() && event;
        });
        assert.deepEqual(gone.getContent(), {});
        const raw = await bob.client.fetchRoomEvent(roomId, asked);
        assert.deepEqual(raw.content, {});
        assert.equal(raw.unsigned.redacted_because.content.reason, "Said too much");
        await assert.rejects(bob.client.redactEvent(roomId, raw.unsigned.redacted_because.event_id), {
            errcode: "M_FORBIDDEN",
        });
    },

    "A poll counts its answers, the last of each person, until it ends": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const start = PollStartEvent.from("Tea or coffee?", ["Tea", "Coffee"], "m.poll.disclosed").serialize();
        const poll = (await alice.client.sendEvent(roomId, start.type, start.content)).event_id;
        await bob.seesEvent(roomId, poll);
        const [tea, coffee] = (await bob.sees(() => bob.room(roomId).polls.get(poll))).pollEvent.answers;
        for (const [person, choice] of [[alice, tea], [bob, tea], [bob, coffee]]) {
            const vote = PollResponseEvent.from([choice.id], poll).serialize();
            await person.client.sendEvent(roomId, vote.type, vote.content);
        }
        const end = PollEndEvent.from(poll, "Closed").serialize();
        await alice.client.sendEvent(roomId, end.type, end.content);
        const known = bob.room(roomId).polls.get(poll);
        const responses = await known.getResponses();
        await bob.sees(() => known.isEnded && responses.getRelations().length === 3);
    },

    "What is scrolled back to is edited, redacted and reacted to as well": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({ preset: "public_chat" });
        const said = [];
        for (let number = 0; number < 40; number += 1) said.push(await alice.say(roomId, `line ${number}`));
        await alice.say(roomId, "* first line", edit(said[0], "first line"));
        await alice.client.redactEvent(roomId, said[1]);
        await alice.say(roomId, "last");
        await bob.client.joinRoom(roomId);
        await bob.isIn(roomId);
        assert.ok(bob.texts(roomId).length < 22);
        const live = bob.room(roomId).getLiveTimeline();
        while (await bob.client.paginateEventTimeline(live, { backwards: true, limit: 7 })) {}
        const expected = ["first line", undefined, ...[...said.keys()].slice(2).map((number) => `line ${number}`)];
        // The library keeps an edit out of the timeline where it does not know yet what it is an edit of.
        await seesTexts(bob, roomId, ...expected, "last");
    },
};
