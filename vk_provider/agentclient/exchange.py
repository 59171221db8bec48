"""Issues an instance's certificate: the identity exchange of wire.routes, and the renewals after it.

The first certificate needs the boot secret of this launch, every later one the key that was certified. A key other than
the instance's first one is always refused (pins).
"""

from __future__ import annotations

import datetime
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from vk_provider.agentclient.authority import Authority, SignedCertificate, read_csr
from vk_provider.agentclient.bootsecret import find_boot_secret, verify_proof
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.pins import KeyPins, fingerprint
from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentIdentityError, AgentVersionError
from vk_provider.wire import routes
from vk_provider.wire.exchange import ExchangeAnswer
from vk_provider.wire.inbound import WireError, decode_exchange_answer
from vk_provider.wire.version import select_version

Post = Callable[[Instance, str, Any, ssl.SSLContext], Awaitable[bytes]]
"""(instance, path, JSON body, TLS context) -> the answer's body; raises AgentError."""


class IdentityExchange:
    """Issues certificates. `post` reaches the agent."""

    def __init__(self, identity: ProviderIdentity, authority: Authority, pins: KeyPins, post: Post) -> None:
        self._identity, self._authority, self._pins, self._post = identity, authority, pins, post

    def is_possible(self, instance: Instance) -> bool:
        """Whether the instance was launched with a boot secret of its own whose master is still known."""
        try:
            self._boot_secret(instance)
        except AgentIdentityError:
            return False
        return True

    def _boot_secret(self, instance: Instance) -> str:
        return find_boot_secret(self._identity.master_secrets, instance.instance_id, instance.tags)

    async def identify(self, instance: Instance, unverified: ssl.SSLContext) -> SignedCertificate:
        """The exchange, on a connection whose server is not verified yet. The agent has verified our client
        certificate, so no third party can have relayed it."""
        boot_secret = self._boot_secret(instance)
        nonce = secrets.token_hex(16)
        answer = await self._ask(instance, nonce, unverified)
        claimed, csr = answer["instanceID"], answer["csr"]
        if select_version(answer["versions"]) is None:
            raise AgentVersionError(f"{instance.instance_id}: the agent speaks other wire versions than we do")
        if claimed != instance.instance_id:
            raise AgentIdentityError(f"{instance.instance_id}: the agent claims to be another instance")
        if not verify_proof(boot_secret, nonce, claimed, csr, answer["hmac"]):
            raise AgentIdentityError(f"{instance.instance_id}: the agent does not know the boot secret of its launch")
        return await self._issue(instance, csr, unverified)

    async def renew(self, instance: Instance, verified: ssl.SSLContext) -> SignedCertificate:
        """Issue another certificate for the key whose certificate `verified` has just verified."""
        answer = await self._ask(instance, secrets.token_hex(16), verified)
        return await self._issue(instance, answer["csr"], verified)

    async def _ask(self, instance: Instance, nonce: str, context: ssl.SSLContext) -> ExchangeAnswer:
        try:
            return decode_exchange_answer(
                await self._post(instance, routes.IDENTITY_REQUEST, {"nonce": nonce}, context)
            )
        except WireError as error:
            raise AgentIdentityError(f"{instance.instance_id}: malformed identity answer: {error}") from None

    async def _issue(self, instance: Instance, csr_pem: str, context: ssl.SSLContext) -> SignedCertificate:
        csr = read_csr(csr_pem, instance.instance_id)
        self._pins.pin(instance.instance_id, fingerprint(csr))
        signed = self._authority.sign_instance(csr, instance.instance_id, datetime.datetime.now(datetime.UTC))
        await self._post(instance, routes.IDENTITY_CERTIFICATE, {"certificate": signed.pem}, context)
        return signed
