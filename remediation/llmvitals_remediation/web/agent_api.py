"""The agents' endpoints: a long poll for commands, and the results (see `docs/agent-protocol.md`)."""

import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmvitals_remediation.agents import HubClosedError
from llmvitals_remediation.protocol import ProtocolError, parse_hello, parse_result
from llmvitals_remediation.web.bodies import MEBIBYTE, BodyReader, read_json_object
from llmvitals_remediation.web.services import Services
from llmvitals_remediation.web.tokens import require


def routes(services: Services) -> list[Route]:
    hub, tokens = services.hub, services.tokens
    hellos, results = BodyReader(MEBIBYTE // 4), BodyReader(MEBIBYTE)

    async def poll(request: Request) -> Response:
        require(request.headers, tokens.agent)
        try:
            hello = parse_hello(await read_json_object(request, hellos), seen_at=time.time())
        except ProtocolError as error:
            raise HTTPException(400, str(error)) from error
        try:
            commands = await hub.poll(hello, gone=lambda: _hang_up(request))
        except HubClosedError as error:
            raise HTTPException(503, "the service is stopping; poll again") from error
        if commands and await request.is_disconnected():
            hub.undelivered(hello.agent_id, commands)
        return JSONResponse({"commands": [command.as_json() for command in commands]})

    async def result(request: Request) -> Response:
        require(request.headers, tokens.agent)
        try:
            agent_id, answer = parse_result(await read_json_object(request, results))
        except ProtocolError as error:
            raise HTTPException(400, str(error)) from error
        hub.answer(agent_id, answer)
        return Response(status_code=204)

    return [
        Route("/api/v1/agent/poll", poll, methods=["POST"]),
        Route("/api/v1/agent/results", result, methods=["POST"]),
    ]


async def _hang_up(request: Request) -> None:
    """Return when the client is gone. The body was read before, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
