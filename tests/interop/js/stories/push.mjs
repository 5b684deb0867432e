// Pushers, as an app makes them, and a push gateway of the story's own that they lead to.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { createServer } from "node:http";

import { until } from "../until.mjs";

/** A gateway on loopback that keeps what it is told. */
const openGateway = async () => {
    const [told, news] = [[], new EventEmitter()];
    const server = createServer(async (request, response) => {
        const chunks = await request.toArray();
        told.push(JSON.parse(Buffer.concat(chunks)).notification);
        news.emit("told");
        response.setHeader("Content-Type", "application/json").end(JSON.stringify({ rejected: [] }));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${server.address().port}/_matrix/push/v1/notify`;
    return { told, news, url, close: () => server.close() };
};

export default {
    "An app is told of messages and of how many are unread, until it takes its pusher away": async (cast) => {
        const [alice, bob] = [await cast.person("alice"), await cast.person("bob")];
        const roomId = await alice.createRoom({}, [bob]);
        const gateway = await openGateway();
        try {
            const pusher = {
                kind: "http",
                app_id: "org.example.app",
                pushkey: bob.id,
                app_display_name: "App",
                device_display_name: "Telephone",
                lang: "en",
                data: { url: gateway.url, format: "event_id_only" },
                append: false,
            };
            await bob.client.setPusher(pusher);
            const { pushers } = await bob.client.getPushers();
            assert.deepEqual(pushers.map(({ pushkey, data }) => ({ pushkey, data })), [
                { pushkey: bob.id, data: pusher.data },
            ]);
            assert.equal(pushers[0]["org.matrix.msc3881.device_id"], bob.client.getDeviceId());
            const first = await alice.say(roomId, "one");
            await until(gateway.news, "told", () => gateway.told.some((one) => one.event_id === first && one.counts.unread === 1));
            await bob.client.sendReadReceipt(await bob.seesEvent(roomId, first));
            await until(gateway.news, "told", () => gateway.told.some((one) => !one.event_id && one.counts.unread === 0));
            await bob.client.removePusher(pusher.pushkey, pusher.app_id);
            assert.deepEqual((await bob.client.getPushers()).pushers, []);
        } finally {
            gateway.close();
        }
    },
};
