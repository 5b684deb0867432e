// Waiting for what a client of matrix-js-sdk has heard of.

const POLL_MILLISECONDS = 50;

/**
 * Resolves with what `condition` gives once that is truthy, looked at whenever the emitter says one of these things.
 * And now and then besides: the library does not tell of everything, such as a thread that it has loaded.
 */
export function until(emitter, names, condition, seconds = 20) {
    return new Promise((resolve, reject) => {
        const heard = [names].flat();
        const stop = () => {
            clearTimeout(timer);
            clearInterval(poll);
            for (const name of heard) emitter.off(name, look);
        };
        const look = () => {
            let held;
            try {
                held = condition();
            } catch (error) {
                stop();
                reject(error);
                return;
            }
            if (!held) return;
            stop();
            resolve(held);
        };
        const timer = setTimeout(() => {
            stop();
            reject(new Error(`not within ${seconds} s: ${condition}`));
        }, seconds * 1000);
        const poll = setInterval(look, POLL_MILLISECONDS);
        for (const name of heard) emitter.on(name, look);
        look();
    });
}
