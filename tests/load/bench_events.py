"""What an event costs, measured in bare Ed25519 signatures, so that the number means the same on every machine.

`python -m tests.load.bench_events` makes an ordinary message event of room version 11 and takes it in again:

* make: content hash, signature, event id, format and size checks (`build_event`)
* check: the signature and the content hash of that event (`check_event_signature`, `check_content_hash`)
* encode: the JSON that is stored and sent (`encode_json`)
* parse: what a receiving server does besides (`decode_json`, `parse_event`); shown, but not part of the ratio

Compared is (make + check + encode) with one bare `nacl.signing.SigningKey.sign` of the bytes that the signature covers.
Every round measures all parts one after the other, and the best round of each counts, so that a busy machine disturbs
the ratio little.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from nacl.signing import SigningKey as NaclSigningKey

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.event_builder import build_event
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.hashing import check_content_hash, signed_bytes
from homeserver.protocol.room_versions import room_version
from homeserver.protocol.signing import SigningKey, check_event_signature
from tests.load.report import Report

BOUND = 6.0
ROUNDS = 30
CALLS = 200  # a round and part
VERSION = room_version("11")
SEED = bytes(range(32))
SERVER = "matrix.example.org"
KEY = SigningKey("a_bench", SEED)
CONTENT = {
    "msgtype": "m.text",
    "body": "Shall we meet at the station at half past seven? I'll bring the tickets, you bring the café crème. 🙂",
    "format": "org.matrix.custom.html",
    "formatted_body": "Shall we meet at the <b>station</b> at half past seven? I'll bring the tickets.",
    "m.mentions": {"user_ids": ["@bob:example.com"]},
    "m.relates_to": {"m.in_reply_to": {"event_id": "$" + "r" * 43}},
}


def make() -> Event:
    """A message as the send path makes it."""
    return build_event(
        room_version=VERSION,
        room_id="!UcYsUzyxTGDxLBEvLy:example.org",
        type="m.room.message",
        sender="@alice:" + SERVER,
        content=CONTENT,
        prev_events=["$" + "p" * 43],
        auth_events=["$" + letter * 43 for letter in "abc"],
        depth=1234,
        origin_server_ts=1_700_000_000_000,
        server_name=SERVER,
        signing_key=KEY,
    )


def best_of(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds a call of each part, the best of all rounds."""
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(ROUNDS):
        for name, part in parts.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                part()
            best[name] = min(best[name], (time.perf_counter() - start) / CALLS)
    return best


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    event = make()
    encoded = encode_json(event.json)
    message = signed_bytes(event.json, VERSION)
    nacl_key = NaclSigningKey(SEED)
    signature = nacl_key.sign(message).signature

    def check() -> None:
        check_event_signature(event, SERVER, KEY.key_id, KEY.verify_key)
        if not check_content_hash(event.json, VERSION):
            raise AssertionError("the content hash of the event made here is wrong")

    seconds = best_of(
        {
            "bare signature": lambda: nacl_key.sign(message),
            "bare verification": lambda: KEY.verify_key.verify(message, signature),
            "make": make,
            "check": check,
            "encode": lambda: encode_json(event.json),
            "parse": lambda: parse_event(decode_json(encoded), VERSION),
        }
    )
    for name, value in seconds.items():
        report.note(f"{name:>18}: {value * 1e6:7.1f} µs")
    report.note(f"an event of {len(encoded)} bytes")
    ours = seconds["make"] + seconds["check"] + seconds["encode"]
    report.check("make, check and encode an event / bare signature", ours / seconds["bare signature"], BOUND)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
