// As much of a browser as the server's pages need: cookies, redirects of this server, forms. They work without scripts.

export class Browser {
    #cookies = new Map();

    constructor(baseUrl) {
        this.baseUrl = baseUrl;
    }

    /** Opens an address; follows redirects until a page, or an address that is not this server's, which is `left`. */
    async open(address, form) {
        let url = new URL(address, this.baseUrl);
        let body = form && new URLSearchParams(form);
        for (let hops = 0; hops < 10; hops++) {
            if (url.origin !== new URL(this.baseUrl).origin) return (this.left = url);
            const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
            const headers = { cookie, "accept-language": "en", "sec-fetch-site": "same-origin" };
            const response = await fetch(url, { method: body ? "POST" : "GET", body, headers, redirect: "manual" });
            for (const line of response.headers.getSetCookie()) {
                const [name, value] = line.split(";")[0].split("=");
                this.#cookies.set(name, value);
            }
            this.page = await response.text();
            const location = response.headers.get("location");
            this.url = url;
            if (!location) return;
            url = new URL(location, url);
            body = undefined;
        }
        throw new Error(`redirects without end, now at ${url}`);
    }

    /** Sends the first form of the page with its hidden fields and these. */
    async send(fields) {
        const form = this.page.match(/<form[^>]*>.*?<\/form>/s)?.[0];
        if (!form) throw new Error(`no form at ${this.url}: ${this.page.replace(/<[^>]*>|\s+/g, " ")}`);
        const hidden = {};
        for (const [input] of form.matchAll(/<input[^>]*type="hidden"[^>]*>/g)) {
            hidden[attribute(input, "name")] = attribute(input, "value");
        }
        const action = attribute(form.match(/<form[^>]*>/)[0], "action");
        await this.open(action ? new URL(action, this.url) : this.url, { ...hidden, ...fields });
    }
}

const ENTITIES = { lt: "<", gt: ">", quot: '"', amp: "&" };

function attribute(tag, name) {
    const value = tag.match(new RegExp(`\\b${name}="([^"]*)"`))?.[1] ?? "";
    return value.replace(/&(?:#(\d+)|(\w+));/g, (all, code, word) =>
        code ? String.fromCharCode(code) : (ENTITIES[word] ?? all),
    );
}
