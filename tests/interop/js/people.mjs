// People with an account each, whose clients are made and started as Element Web makes and starts its own.

import { randomUUID } from "node:crypto";

import { ClientEvent, EventTimeline, RoomEvent, RoomStateEvent, createClient } from "matrix-js-sdk";

import { until } from "./until.mjs";

export const PASSWORD = "correct horse battery staple";

/** What may tell a client something new. */
const NEWS = [
    ...[ClientEvent.Sync, ClientEvent.Room, ClientEvent.Event, ClientEvent.AccountData, ClientEvent.DeleteRoom],
    ...[RoomEvent.Timeline, RoomEvent.MyMembership, RoomEvent.UnreadNotifications, RoomStateEvent.Events],
];

/** Somebody with an account. `client` is theirs; it does not sync before `start`. */
export class Person {
    #offline = false;
    #cuts = new Set();

    constructor(account) {
        this.client = createClient({
            baseUrl: account.baseUrl,
            userId: account.user_id,
            deviceId: account.device_id,
            accessToken: account.access_token,
            timelineSupport: true,
            fetchFn: (...request) => this.#fetch(...request),
        });
        this.id = account.user_id;
    }

    /** Registers a new account at a homeserver; the name is made one that nobody has. */
    static async register(baseUrl, name) {
        const account = await createClient({ baseUrl }).registerRequest({
            username: `${name}-${randomUUID().slice(0, 8)}`,
            password: PASSWORD,
            auth: { type: "m.login.dummy" },
        });
        return new Person({ baseUrl, ...account });
    }

    async #fetch(...request) {
        const { promise, reject } = Promise.withResolvers();
        const cut = () => reject(new TypeError("There is no network"));
        this.#cuts.add(cut);
        if (this.#offline) cut();
        try {
            return await Promise.race(this.#offline ? [promise] : [promise, fetch(...request)]);
        } finally {
            this.#cuts.delete(cut);
        }
    }

    /** What is under way fails, as do further requests, until `goOnline`. */
    goOffline() {
        this.#offline = true;
        for (const cut of this.#cuts) cut();
    }

    goOnline() {
        this.#offline = false;
        this.client.retryImmediately();
    }

    /** Starts to sync: lazy members, threads, and the state after the timeline, which the library always asks for. */
    async start(options = {}) {
        const prepared = until(this.client, ClientEvent.Sync, () => this.client.getSyncState() === "PREPARED");
        await this.client.startClient({
            initialSyncLimit: 20,
            lazyLoadMembers: true,
            threadSupport: true,
            pendingEventOrdering: "detached",
            ...options,
        });
        await prepared;
        return this;
    }

    stop() {
        this.client.stopClient();
    }

    /** Waits until `condition` holds of this client, and gives what it gave. */
    sees(condition, seconds) {
        return until(this.client, NEWS, condition, seconds);
    }

    room(roomId) {
        return this.client.getRoom(roomId);
    }

    /** Makes a room that these people, who are invited, join; resolves once all of them know it. */
    async createRoom(options = {}, guests = []) {
        const { room_id: roomId } = await this.client.createRoom({
            preset: "private_chat",
            invite: guests.map((guest) => guest.id),
            ...options,
        });
        for (const guest of guests) {
            await guest.client.joinRoom(roomId);
            await guest.isIn(roomId);
        }
        await this.isIn(roomId);
        return roomId;
    }

    /** Waits until a sync has brought a room that this person is in. */
    async isIn(roomId, membership = "join") {
        if (this.client.clientRunning) await this.sees(() => this.room(roomId)?.getMyMembership() === membership);
    }

    /** Sends a text; `more` goes into the content. Returns the event id. */
    async say(roomId, body, more = {}) {
        return (await this.client.sendMessage(roomId, { msgtype: "m.text", body, ...more })).event_id;
    }

    /** Waits for an event in a room's live timeline, or in a thread of it. */
    seesEvent(roomId, eventId) {
        return this.sees(() => this.room(roomId)?.findEventById(eventId));
    }

    /** The texts in the live timeline, as they now read. */
    texts(roomId) {
        const events = this.room(roomId)?.getLiveTimeline().getEvents() ?? [];
        return events.filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
    }

    /** Content of a piece of the current state, or undefined. */
    state(roomId, type, key = "") {
        const current = this.room(roomId)?.getLiveTimeline().getState(EventTimeline.FORWARDS);
        return current?.getStateEvents(type, key)?.getContent();
    }
}

/** The error code with which a request is refused. Throws if it is not. */
export async function refused(promise) {
    try {
        await promise;
    } catch (error) {
        if (error.errcode) return error.errcode;
        throw error;
    }
    throw new Error("should have been refused");
}
