// One matrix-js-sdk client, driven by a test: a call a line on stdin, an answer a line on stdout.
//
//     {"id": 1, "call": "send", "args": ["!room:example.org", "hello"]}  ->  {"id": 1, "result": "$event"}
//
// or {"id": 1, "error": "what went wrong"}. It ends with its stdin. Whatever the library logs goes to stderr.

import { createInterface } from "node:readline";

for (const level of ["log", "info", "debug", "trace", "warn"]) console[level] = console.error;

const { ClientEvent, Direction, RoomEvent, RoomStateEvent, createClient } = await import("matrix-js-sdk");
const { until } = await import("./until.mjs");

let client;

const calls = {
    /** Logs in with a password, starts to sync, and answers with the user id once the first sync has come. */
    async login(baseUrl, user, password) {
        const identifier = { type: "m.id.user", user };
        const account = await createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier, password });
        client = createClient({
            baseUrl,
            userId: account.user_id,
            deviceId: account.device_id,
            accessToken: account.access_token,
        });
        const prepared = until(client, ClientEvent.Sync, () => client.getSyncState() === "PREPARED", 30);
        // Detached: a message of one's own takes its place in the timeline when the server says where that is.
        await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true, pendingEventOrdering: "detached" });
        await prepared;
        return account.user_id;
    },

    async createRoom(options) {
        return (await client.createRoom(options)).room_id;
    },

    /** Waits to be invited, and joins. */
    async accept(roomId) {
        const invited = () => client.getRoom(roomId)?.getMyMembership() === "invite";
        await until(client, [ClientEvent.Room, RoomEvent.MyMembership], invited, 30);
        await client.joinRoom(roomId);
        await until(client, RoomEvent.MyMembership, () => client.getRoom(roomId)?.getMyMembership() === "join", 30);
    },

    async send(roomId, text) {
        return (await client.sendTextMessage(roomId, text)).event_id;
    },

    async edit(roomId, eventId, text) {
        const content = { msgtype: "m.text", body: text };
        const relation = { rel_type: "m.replace", event_id: eventId };
        return (
            await client.sendMessage(roomId, { ...content, "m.new_content": content, "m.relates_to": relation })
        ).event_id;
    },

    async redact(roomId, eventId) {
        return (await client.redactEvent(roomId, eventId)).event_id;
    },

    async setTopic(roomId, topic) {
        return (await client.setRoomTopic(roomId, topic)).event_id;
    },

    /** Waits until the room has this topic. */
    async seesTopic(roomId, topic, seconds) {
        const current = () => client.getRoom(roomId)?.currentState.getStateEvents("m.room.topic", "")?.getContent().topic;
        await until(client, [RoomStateEvent.Events, ClientEvent.Room], () => current() === topic, seconds);
    },

    async typing(roomId, isTyping) {
        await client.sendTyping(roomId, isTyping, 20_000);
    },

    /** Marks what is newest in the room as read. */
    async read(roomId) {
        await client.sendReadReceipt(client.getRoom(roomId).getLiveTimeline().getEvents().at(-1));
    },

    /** Waits until all these texts are in the timeline. */
    async sees(roomId, texts, seconds) {
        const all = () => {
            const seen = new Set(messages(roomId).map((message) => message.body));
            return texts.every((text) => seen.has(text));
        };
        await until(client, [RoomEvent.Timeline, ClientEvent.Sync], all, seconds);
    },

    /** The messages of the room as the library now has them, the oldest first, after scrolling to its beginning. */
    async messages(roomId) {
        const timeline = client.getRoom(roomId).getLiveTimeline();
        while (timeline.getPaginationToken(Direction.Backward)) {
            await client.paginateEventTimeline(timeline, { backwards: true, limit: 100 });
        }
        return messages(roomId);
    },

    async logout() {
        client.stopClient();
        await client.logout(true);
    },
};

function messages(roomId) {
    const events = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
    return events
        .filter((event) => event.getType() === "m.room.message" && !event.isRedacted())
        .map((event) => ({ id: event.getId(), sender: event.getSender(), body: event.getContent().body }));
}

async function answer({ id, call, args }) {
    let reply;
    try {
        reply = { id, result: (await calls[call](...args)) ?? null };
    } catch (error) {
        reply = { id, error: String(error?.stack ?? error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
}

createInterface({ input: process.stdin })
    .on("line", (line) => answer(JSON.parse(line)))
    .on("close", () => process.exit(0));
