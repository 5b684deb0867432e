// Signing in by OAuth 2.0, as Element Web does it with the library's own functions; the pages are filled in without
// scripts.

import assert from "node:assert/strict";

import { QrCodeData } from "@matrix-org/matrix-sdk-crypto-wasm";
import { OAuth2, TokenRefreshLogoutError, createClient } from "matrix-js-sdk";
import { TokenRefresher } from "matrix-js-sdk/lib/oauth/tokenRefresher.js";
import {
    MSC4108RendezvousSession,
    MSC4108SecureChannel,
    MSC4108SignInWithQR,
    isSignInWithQRAvailable,
    linkNewDeviceByGeneratingQR,
} from "matrix-js-sdk/lib/rendezvous/index.js";

import { Browser } from "../browser.mjs";
import { PASSWORD } from "../people.mjs";

const CLIENT_URI = "https://app.example/";
const REDIRECT_URI = "https://app.example/callback";

async function register(baseUrl) {
    const metadata = await createClient({ baseUrl }).getAuthMetadata();
    const clientId = await OAuth2.registerClient(metadata, {
        client_name: "Story",
        client_uri: CLIENT_URI,
        redirect_uris: [REDIRECT_URI],
        application_type: "web",
        logo_uri: "https://app.example/logo.png",
    });
    return new OAuth2(metadata, { clientId });
}

/** Signs a person in on the page that the browser was sent to. */
async function signIn(browser, person) {
    await browser.send({ username: person.id, password: PASSWORD });
}

async function authorize(baseUrl, person, oauth2, mode = "fragment") {
    const browser = new Browser(baseUrl);
    await browser.open(await oauth2.generateAuthorizationCodeGrantUrl("a state", REDIRECT_URI, mode));
    await signIn(browser, person);
    await browser.send({ answer: "allow" });
    assert.equal(browser.left.origin + browser.left.pathname, REDIRECT_URI);
    const answer = new URLSearchParams(mode === "fragment" ? browser.left.hash.slice(1) : browser.left.search);
    assert.equal(answer.get("state"), "a state");
    assert.equal(answer.get("iss"), oauth2.metadata.issuer);
    return answer.get("code");
}

function signedIn(baseUrl, tokens, options = {}) {
    return createClient({ baseUrl, accessToken: tokens.access_token, ...options });
}

export default {
    async "the library finds metadata that it takes for good"({ baseUrl }) {
        const metadata = await createClient({ baseUrl }).getAuthMetadata();
        assert.equal(metadata.authorization_endpoint, `${baseUrl}/oauth2/authorize`);
        assert.ok(metadata.account_management_actions_supported.includes("org.matrix.device_delete"));
    },

    async "the legacy login is still offered"({ baseUrl, stranger }) {
        const { flows } = await createClient({ baseUrl }).loginFlows();
        assert.ok(flows.some((flow) => flow.type === "m.login.password"));
        const person = await stranger("legacy");
        const answer = await createClient({ baseUrl }).loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: person.id },
            password: PASSWORD,
        });
        assert.equal(answer.user_id, person.id);
    },

    async "somebody signs in through the browser"({ baseUrl, stranger }) {
        const person = await stranger("browser");
        for (const mode of ["fragment", "query"]) {
            const oauth2 = await register(baseUrl);
            const code = await authorize(baseUrl, person, oauth2, mode);
            const tokens = await oauth2.completeAuthorizationCodeGrant(code, REDIRECT_URI);
            const who = await signedIn(baseUrl, tokens).whoami();
            assert.deepEqual(who, { user_id: person.id, device_id: oauth2.context.deviceId, is_guest: false });
            await assert.rejects(oauth2.completeAuthorizationCodeGrant(code, REDIRECT_URI), { error: "invalid_grant" });
        }
    },

    async "a client refreshes by itself when its token is not good any more"({ baseUrl, stranger }) {
        const person = await stranger("refresh");
        const oauth2 = await register(baseUrl);
        const code = await authorize(baseUrl, person, oauth2);
        const tokens = await oauth2.completeAuthorizationCodeGrant(code, REDIRECT_URI);
        let stored;
        const client = signedIn(baseUrl, { access_token: "expired" }, {
            refreshToken: tokens.refresh_token,
            oauthClientId: oauth2.context.clientId,
            onTokenRefresh: (fresh) => {
                stored = fresh;
            },
        });
        assert.equal((await client.whoami()).user_id, person.id);
        assert.notEqual(stored.accessToken, tokens.access_token);
        const refresher = new TokenRefresher(oauth2, () => {});
        const newer = await refresher.refreshTokens(stored.refreshToken);
        assert.equal((await signedIn(baseUrl, { access_token: newer.accessToken }).whoami()).user_id, person.id);
        // A token that was replaced ends the session, so that the library logs out.
        await assert.rejects(refresher.refreshTokens(tokens.refresh_token), TokenRefreshLogoutError);
        await assert.rejects(refresher.refreshTokens(newer.refreshToken), TokenRefreshLogoutError);
    },

    async "a client logs out by revoking its tokens"({ baseUrl, stranger }) {
        const person = await stranger("revoke");
        const oauth2 = await register(baseUrl);
        const code = await authorize(baseUrl, person, oauth2);
        const tokens = await oauth2.completeAuthorizationCodeGrant(code, REDIRECT_URI);
        const client = signedIn(baseUrl, tokens, {
            refreshToken: tokens.refresh_token,
            oauthClientId: oauth2.context.clientId,
        });
        await client.logout();
        await assert.rejects(signedIn(baseUrl, tokens).whoami(), { errcode: "M_UNKNOWN_TOKEN" });
        const { devices } = await person.client.getDevices();
        assert.ok(!devices.some((device) => device.device_id === oauth2.context.deviceId));
    },

    async "a device without a browser is signed in with a code"({ baseUrl, stranger }) {
        const person = await stranger("device");
        const oauth2 = await register(baseUrl);
        const session = await oauth2.startDeviceAuthorizationGrant();
        const browser = new Browser(baseUrl);
        await browser.open(session.verification_uri_complete);
        await signIn(browser, person);
        await browser.send({ answer: "allow" });
        const tokens = await oauth2.waitForDeviceAuthorizationGrant(session);
        assert.equal((await signedIn(baseUrl, tokens).whoami()).device_id, oauth2.context.deviceId);
    },

    async "a device that is refused is told so"({ baseUrl, stranger }) {
        const person = await stranger("refused");
        const oauth2 = await register(baseUrl);
        const session = await oauth2.startDeviceAuthorizationGrant();
        const browser = new Browser(baseUrl);
        await browser.open(session.verification_uri_complete);
        await signIn(browser, person);
        await browser.send({ answer: "deny" });
        assert.equal((await oauth2.waitForDeviceAuthorizationGrant(session)).error, "access_denied");
    },

    async "two devices meet to sign one of them in"({ stranger }) {
        const person = await stranger("meeting");
        const onFailure = (reason) => assert.fail(reason);
        const first = new MSC4108RendezvousSession({ client: person.client, onFailure });
        await first.send("hello from the first");
        const second = new MSC4108RendezvousSession({ url: first.url, onFailure });
        assert.equal(await second.receive(), "hello from the first");
        await second.send("hello from the second");
        assert.equal(await first.receive(), "hello from the second");
        await first.close();
        assert.equal((await fetch(first.url)).status, 404);
    },

    async "a new device scans a code, is signed in, and is given the keys of the account"({ baseUrl, stranger }) {
        const person = await stranger("scanned");
        await person.client.initRustCrypto({ useIndexedDB: false });
        await person.start();
        const identifier = { type: "m.id.user", user: person.id };
        await person.client.getCrypto().bootstrapCrossSigning({
            setupNewCrossSigning: true,
            authUploadDeviceSigningKeys: (upload) => upload({ type: "m.login.password", identifier, password: PASSWORD }),
        });
        assert.ok(await isSignInWithQRAvailable(person.client));
        const onFailure = (reason) => assert.fail(reason);
        const existing = await linkNewDeviceByGeneratingQR(person.client, onFailure, new AbortController().signal);

        const scanned = QrCodeData.fromBytes(existing.code);
        const session = new MSC4108RendezvousSession({ url: scanned.rendezvousUrl, onFailure });
        const channel = new MSC4108SecureChannel(session, scanned.publicKey, onFailure);
        const fresh = new MSC4108SignInWithQR(channel, true, undefined, onFailure);
        await Promise.all([existing.negotiateProtocols(), fresh.negotiateProtocols()]);
        assert.equal(existing.checkCode, fresh.checkCode);

        const oauth2 = await register(baseUrl);
        const { clientId, deviceId } = oauth2.context;
        const [{ verificationUri }] = await Promise.all([
            existing.deviceAuthorizationGrant(),
            fresh.deviceAuthorizationGrant({ metadata: oauth2.metadata, clientId, deviceId }),
        ]);
        const browser = new Browser(baseUrl);
        await browser.open(verificationUri);
        await signIn(browser, person);
        await browser.send({ answer: "allow" });

        const shared = existing.shareSecrets();
        const tokens = await fresh.completeLoginOnNewDevice({ clientId });
        const client = signedIn(baseUrl, tokens, { userId: person.id, deviceId });
        await client.initRustCrypto({ useIndexedDB: false });
        const { secrets } = await fresh.shareSecrets();
        await shared;
        await fresh.close();
        await client.getCrypto().importSecretsBundle(secrets);
        await client.getCrypto().bootstrapCrossSigning({});
        const status = await client.getCrypto().getCrossSigningStatus();
        assert.ok(status.privateKeysCachedLocally.masterKey);
        client.stopClient();
    },
};
