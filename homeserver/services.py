"""What the speakers (client API, federation, push, …) are given: every long-lived object, built once by `main`.

Actions below (rooms, accounts, devices) never take this whole: each takes the two or three things it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeserver.accounts.interactive_auth import Sessions
    from homeserver.accounts.jobs import Jobs
    from homeserver.accounts.login_attempts import LoginAttempts
    from homeserver.accounts.single_sign_on.provider import Provider
    from homeserver.changes import Changes
    from homeserver.config import Config
    from homeserver.mail import MailSender
    from homeserver.media.repository import Media
    from homeserver.outbound import OutboundClient
    from homeserver.protocol.signing import SigningKey
    from homeserver.rate_limits import RateLimits
    from homeserver.remote import Remote
    from homeserver.rooms.backfill import Backfiller
    from homeserver.rooms.delayed_events import DelayedEvents
    from homeserver.rooms.guest_access import GuestAccess
    from homeserver.rooms.membership import Membership
    from homeserver.rooms.presence import Presence
    from homeserver.rooms.receipts import Receipts
    from homeserver.rooms.receive import Receiver
    from homeserver.rooms.space_hierarchy import SpaceHierarchy
    from homeserver.rooms.third_party_invites import ThirdPartyInvites
    from homeserver.rooms.timeline import Timeline
    from homeserver.rooms.typing_users import TypingUsers
    from homeserver.secrets import Secrets
    from homeserver.storage.stream import Pool, Stream
    from homeserver.sync.sent_members import SentMembers


@dataclass(frozen=True, slots=True)
class Services:
    config: Config
    signing_key: SigningKey
    secrets: Secrets
    pool: Pool
    stream: Stream
    changes: Changes
    timeline: Timeline
    receiver: Receiver
    backfiller: Backfiller
    membership: Membership
    guest_access: GuestAccess
    third_party_invites: ThirdPartyInvites
    spaces: SpaceHierarchy
    typing: TypingUsers
    presence: Presence
    delayed_events: DelayedEvents
    receipts: Receipts
    sent_members: SentMembers
    jobs: Jobs
    remote: Remote
    rate_limits: RateLimits
    login_attempts: LoginAttempts
    uia: Sessions
    outbound: OutboundClient
    single_sign_on: Mapping[str, Provider]
    mail: MailSender
    media: Media

    @property
    def server_name(self) -> str:
        return self.config.server_name
