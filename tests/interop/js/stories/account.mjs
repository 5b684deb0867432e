// What belongs to an account: rules and counts of notifications, receipts, profile, presence, ignored users, its data.

import assert from "node:assert/strict";

import { NotificationCountType, ProfileKeyTimezone, PushRuleKind, ReceiptType } from "matrix-js-sdk";

import { refused } from "../people.mjs";

/** Unread and highlighted, as the client shows them. */
const counts = (person, roomId) => {
    const room = person.room(roomId);
    return [room.getUnreadNotificationCount(), room.getUnreadNotificationCount(NotificationCountType.Highlight)];
};

const seesCounts = (person, roomId, unread, highlighted) =>
    person.sees(() => String(counts(person, roomId)) === String([unread, highlighted])).catch(() => {
        assert.deepEqual(counts(person, roomId), [unread, highlighted]);
    });

export default {
    "Rules say what is counted: mentions, words, silent rooms, rules of one's own; and reading ends it": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const carol = await cast.person("carol");
        const roomId = await alice.createRoom({}, [bob, carol]);
        const first = await alice.say(roomId, "one");
        await seesCounts(bob, roomId, 1, 0);
        await alice.say(roomId, "two", { "m.mentions": { user_ids: [bob.id] } });
        await seesCounts(bob, roomId, 2, 1);
        await alice.client.sendNotice(roomId, "a bot says so");
        await seesCounts(bob, roomId, 2, 1);
        await bob.client.addPushRule("global", PushRuleKind.ContentSpecific, "cake", {
            pattern: "cake",
            actions: ["notify", { set_tweak: "highlight" }],
        });
        await bob.sees(() => bob.client.pushRules.global.content.some((rule) => rule.rule_id === "cake"));
        await alice.say(roomId, "There is CAKE!");
        await seesCounts(bob, roomId, 3, 2);
        await bob.client.sendReadReceipt(await bob.seesEvent(roomId, first));
        await seesCounts(bob, roomId, 2, 2);

        const mute = { conditions: [{ kind: "event_match", key: "room_id", pattern: roomId }], actions: [] };
        await bob.client.addPushRule("global", PushRuleKind.Override, roomId, mute);
        const last = await alice.say(roomId, "more cake");
        await bob.client.setPushRuleEnabled("global", PushRuleKind.Override, roomId, false);
        await alice.say(roomId, "nothing");
        await seesCounts(bob, roomId, 3, 2);
        await bob.client.deletePushRule("global", PushRuleKind.Override, roomId);
        assert.equal(await refused(bob.client.deletePushRule("global", PushRuleKind.Override, roomId)), "M_NOT_FOUND");
        // The library works out for itself what an event is, and should come to the same.
        await bob.sees(() => !bob.client.pushRules.global.override.some((rule) => rule.rule_id === roomId));
        const details = bob.client.getPushDetailsForEvent(await bob.seesEvent(roomId, last), true);
        assert.equal(details.rule.rule_id, "cake");
        await bob.client.sendReadReceipt(bob.room(roomId).getLiveTimeline().getEvents().at(-1), ReceiptType.ReadPrivate);
        await seesCounts(bob, roomId, 0, 0);
        assert.equal(alice.room(roomId).getEventReadUpTo(bob.id), first, "a private receipt is nobody else's");
        const { notifications } = await bob.client.http.authedRequest("GET", "/notifications", { only: "highlight" });
        assert.deepEqual(notifications.map((one) => one.event.content.body), ["There is CAKE!", "two"]);
    },

    "Receipts, typing and the read marker come to those whom they concern": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const said = await alice.say(roomId, "one");
        const event = await bob.seesEvent(roomId, said);
        await bob.client.setRoomReadMarkers(roomId, said, event);
        await alice.sees(() => alice.room(roomId).getEventReadUpTo(bob.id) === said);
        await bob.sees(() => bob.room(roomId).getAccountData("m.fully_read")?.getContent().event_id === said);
        await bob.client.sendTyping(roomId, true, 20_000);
        await alice.sees(() => alice.room(roomId).getMember(bob.id).typing);
        await bob.client.sendTyping(roomId, false);
        await alice.sees(() => !alice.room(roomId).getMember(bob.id).typing);
        await bob.client.sendTyping(roomId, true, 20_000);
        await alice.sees(() => alice.room(roomId).getMember(bob.id).typing);
        await bob.say(roomId, "done");
    },

    "A new name and picture reach the rooms, other profile fields are there to ask for": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        await bob.client.setDisplayName("Bobby");
        await bob.client.setAvatarUrl("mxc://example.org/bob");
        const member = () => alice.room(roomId).getMember(bob.id);
        await alice.sees(() => member().name === "Bobby" && member().getMxcAvatarUrl() === "mxc://example.org/bob");
        assert.ok(await bob.client.doesServerSupportExtendedProfiles());
        await bob.client.setExtendedProfileProperty(ProfileKeyTimezone, "Europe/Kyiv");
        await bob.client.setExtendedProfileProperty("org.example.motto", { text: "On we go" });
        assert.deepEqual(await alice.client.getExtendedProfile(bob.id), {
            displayname: "Bobby",
            avatar_url: "mxc://example.org/bob",
            [ProfileKeyTimezone]: "Europe/Kyiv",
            "org.example.motto": { text: "On we go" },
        });
        await bob.client.deleteExtendedProfileProperty("org.example.motto");
        assert.equal(await alice.client.getExtendedProfileProperty(bob.id, "org.example.motto"), undefined);
        assert.deepEqual(await alice.client.getProfileInfo(bob.id), {
            displayname: "Bobby",
            avatar_url: "mxc://example.org/bob",
            [ProfileKeyTimezone]: "Europe/Kyiv",
        });
        const { results } = await alice.client.searchUserDirectory({ term: "Bobb", limit: 10 });
        assert.ok(results.some((user) => user.user_id === bob.id && user.display_name === "Bobby"));
    },

    "Who shares a room sees presence, and what somebody says of theirs": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        await alice.createRoom({}, [bob]);
        await bob.client.setSyncPresence("unavailable"); // else each sync says that he is there
        await bob.client.setPresence({ presence: "unavailable", status_msg: "Out for tea" });
        await alice.sees(() => alice.client.getUser(bob.id)?.presenceStatusMsg === "Out for tea");
        assert.equal(alice.client.getUser(bob.id).presence, "unavailable");
        const told = await alice.client.getPresence(bob.id);
        assert.equal(told.status_msg, "Out for tea");
        assert.equal(await refused((await cast.stranger("dave")).client.getPresence(bob.id)), "M_FORBIDDEN");
    },

    "Nothing is heard of those who are ignored, until they no longer are": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const carol = await cast.person("carol");
        const roomId = await alice.createRoom({}, [bob, carol]);
        await alice.client.setIgnoredUsers([bob.id]);
        assert.ok(alice.client.isUserIgnored(bob.id));
        await bob.say(roomId, "Can you hear me?");
        await bob.client.createRoom({ name: "Come in", invite: [alice.id] });
        const heard = await carol.say(roomId, "I can");
        await alice.seesEvent(roomId, heard);
        assert.deepEqual(alice.texts(roomId), ["I can"]);
        assert.ok(alice.client.getRooms().every((room) => room.name !== "Come in"));
        await alice.client.setIgnoredUsers([]);
        await bob.say(roomId, "And now?");
        await alice.sees(() => alice.texts(roomId).includes("And now?"));
    },

    "Tags and account data come to one's other devices, and go when they are deleted": async (cast) => {
        const alice = await cast.person("alice");
        const roomId = await alice.createRoom();
        await alice.client.setRoomTag(roomId, "m.favourite", { order: 0.5 });
        await alice.sees(() => alice.room(roomId).tags["m.favourite"]?.order === 0.5);
        await alice.client.deleteRoomTag(roomId, "m.favourite");
        await alice.sees(() => !("m.favourite" in alice.room(roomId).tags));
        await alice.client.setAccountData("org.example.theme", { dark: true });
        assert.deepEqual(await alice.client.getAccountDataFromServer("org.example.theme"), { dark: true });
        await alice.client.setRoomAccountData(roomId, "org.example.colour", { name: "blue" });
        await alice.sees(() => alice.room(roomId).getAccountData("org.example.colour")?.getContent().name === "blue");
        await alice.client.deleteAccountData("org.example.theme");
        assert.deepEqual(alice.client.getAccountData("org.example.theme").getContent(), {});
        const path = `/user/${encodeURIComponent(alice.id)}/account_data/org.example.theme`;
        const prefix = "/_matrix/client/unstable/org.matrix.msc3391";
        await alice.client.http.authedRequest("DELETE", path, undefined, undefined, { prefix });
        assert.equal(await refused(alice.client.http.authedRequest("GET", path)), "M_NOT_FOUND");
    },

    "Devices and to-device messages are where the library looks for them": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        await alice.client.setDeviceDetails(alice.client.getDeviceId(), { display_name: "Kitchen" });
        const { devices } = await alice.client.getDevices();
        assert.deepEqual(devices.map((device) => device.display_name), ["Kitchen"]);
        const heard = new Promise((resolve) => alice.client.on("toDeviceEvent", resolve));
        const contents = new Map([[alice.id, new Map([["*", { question: "Tea?" }]])]]);
        await bob.client.sendToDevice("org.example.question", contents);
        const message = await heard;
        assert.equal(message.getSender(), bob.id);
        assert.deepEqual(message.getContent(), { question: "Tea?" });
    },

    "What is to be sent later waits, is put off, called off or sent at once": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const later = (body) =>
            alice.client._unstable_sendDelayedEvent(roomId, { delay: 600_000 }, null, "m.room.message", {
                msgtype: "m.text",
                body,
            });
        const [sent, dropped] = [await later("At last"), await later("Never")];
        const waiting = await alice.client._unstable_getDelayedEvents();
        assert.equal(waiting.delayed_events.length, 2);
        await alice.client._unstable_restartScheduledDelayedEvent(sent.delay_id);
        await alice.client._unstable_cancelScheduledDelayedEvent(dropped.delay_id);
        await alice.client._unstable_sendScheduledDelayedEvent(sent.delay_id);
        await bob.sees(() => bob.texts(roomId).includes("At last"));
        assert.deepEqual((await alice.client._unstable_getDelayedEvents()).delayed_events, []);
    },

    "Rooms that two share are found, and what is wrong in them reported": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const shared = await alice.createRoom({}, [bob]);
        await alice.createRoom();
        assert.deepEqual(await alice.client._unstable_getSharedRooms(bob.id), [shared]);
        const said = await bob.say(shared, "Something bad");
        await alice.client.reportEvent(shared, said, -50, "It is bad");
        await alice.client.reportRoom(shared, "All of it");
        assert.equal(await refused(alice.client.reportEvent(shared, "$nothing", 0, "?")), "M_NOT_FOUND");
    },
};
