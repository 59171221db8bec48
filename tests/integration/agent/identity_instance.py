"""The part of the agent that answers for roles, alone in the network namespace that it is started in: `python -m
tests.integration.agent.identity_instance ADDRESS...`, the instance's own addresses. Prints "listening", and then each
token that the provider would be asked about, which is answered with credentials at once."""

from __future__ import annotations

import asyncio
import sys

import orjson

from vk_provider.agent.podidentity.endpoint import IdentityEndpoint
from vk_provider.agent.podidentity.questions import Questions
from vk_provider.wire.identity import IDENTITY_HOSTS, IdentityAnswer, token_digest

ACCESS_KEY = "ASIAEXAMPLE"
CREDENTIALS = {
    "AccessKeyId": ACCESS_KEY,
    "SecretAccessKey": "secret",
    "Token": "session",
    "Expiration": "2099-01-01T00:00:00Z",
    "AccountId": "111122223333",
}
_URI = {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": f"http://{IDENTITY_HOSTS[0]}/v1/credentials"}


async def serve(clients: list[str]) -> None:
    def answer(tokens: list[str]) -> None:
        for token in tokens:
            print(token, flush=True)
            found = IdentityAnswer(status=200, body=orjson.dumps(CREDENTIALS).decode(), freshForSeconds=0.0)
            loop.call_soon(endpoint.receive, {"type": "credentials", "answers": {token_digest(token): found}})

    loop = asyncio.get_running_loop()
    endpoint = IdentityEndpoint(Questions(answer), clients, lambda text: print(f"trouble: {text}", flush=True))
    endpoint.take_pod({"spec": {"containers": [{"name": "c", "env": [_URI]}]}}, True)
    running = asyncio.create_task(endpoint.run())
    await endpoint.listening.wait()
    print(f"listening {' '.join(f'{host} {port}' for host, port in endpoint.addresses)}", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
