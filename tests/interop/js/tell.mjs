// Tells the stories of a file: `node tell.mjs http://127.0.0.1:8008 stories/threads.mjs`.
//
// A line a story on stdout, {"story": "its rule", "error": null or what went wrong}; what the library logs on stderr.
// Ends by itself, with 0 if all stories came out as they should.

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

for (const level of ["log", "info", "debug", "trace", "warn"]) console[level] = console.error;

const { Person } = await import("./people.mjs");

const SECONDS = 90;
const [baseUrl, file] = process.argv.slice(2);
const { default: stories } = await import(pathToFileURL(resolve(file)).href);

/** Tells one story to people who are gone after it; resolves with what went wrong, or null. */
async function tell(story) {
    const people = [];
    const cast = {
        baseUrl,
        /** Somebody new whose client syncs. */
        async person(name, options) {
            return (await cast.stranger(name)).start(options);
        },
        /** Somebody new whose client does not sync yet. */
        async stranger(name) {
            const person = await Person.register(baseUrl, name);
            people.push(person);
            return person;
        },
    };
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not told within ${SECONDS} s`)), SECONDS * 1000);
    });
    try {
        await Promise.race([story(cast), late]);
        return null;
    } catch (error) {
        return String(error?.stack ?? error);
    } finally {
        clearTimeout(timer);
        for (const person of people) person.stop();
    }
}

const lines = [];
for (const [rule, story] of Object.entries(stories)) {
    console.error(`--- ${rule}`);
    lines.push({ story: rule, error: await tell(story) });
}
process.stdout.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(""), () => {
    process.exit(lines.some((line) => line.error !== null) ? 1 : 0);
});
