"""All providers of a process, their ports, and the control port that turns their dials."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from faulty_llm import _koboldcpp_api, _openai_api, _vllm_metrics
from faulty_llm._control import control_app
from faulty_llm._dials import ProviderDials
from faulty_llm._http import BadRequestError, GoneError
from faulty_llm._listener import Listener
from faulty_llm._provider import Fault, Provider

__all__ = ["MODELS", "Simulator"]

MODELS = ("talker", "thinker")
"""What each provider serves; the thinker takes longer to begin and says more."""

_DEFAULTS = ProviderDials(models={"thinker": {"time_to_first_token_seconds": 0.2, "tokens_per_second": 120.0}})


class Simulator:
    """
    Providers by name, each on its own port, and a control port.

    Port 0 takes a free one; `ports` and `control_port` tell which. Raises OSError when a port is taken.
    """

    def __init__(
        self, listen: Mapping[str, int], *, control_port: int = 0, host: str = "127.0.0.1", seed: int = 0
    ) -> None:
        self.providers = {name: Provider(name, MODELS, seed, _DEFAULTS) for name in listen}
        self._listeners: dict[str, Listener] = {}
        # One change of dials at a time: closing a listener takes a moment.
        self._turning = asyncio.Lock()
        try:
            for name, port in listen.items():
                self._listeners[name] = Listener(_provider_app(self.providers[name]), host, port)
            self._control = Listener(control_app(self), host, control_port)
        except OSError:
            for listener in self._listeners.values():
                listener.give_back()
            raise

    @property
    def ports(self) -> dict[str, int]:
        return {name: listener.port for name, listener in self._listeners.items()}

    @property
    def control_port(self) -> int:
        return self._control.port

    async def __aenter__(self) -> Self:
        for listener in (*self._listeners.values(), self._control):
            await listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(listener.shut() for listener in (*self._listeners.values(), self._control)))

    async def turn(self, name: str, patch: object) -> None:
        """Change a provider's dials as *patch* says, and open or close its port. Raises DialError."""
        async with self._turning:
            provider = self.providers[name]
            await self._set(provider, provider.dials.patched(patch, provider.models))

    async def reset(self, name: str) -> None:
        """Put a provider's dials back to what they were at the start."""
        async with self._turning:
            await self._set(self.providers[name], _DEFAULTS)

    async def _set(self, provider: Provider, dials: ProviderDials) -> None:
        provider.dials = dials
        if dials.base.refuse:
            await self._listeners[provider.name].close()
        else:
            await self._listeners[provider.name].open()


def _provider_app(provider: Provider) -> Starlette:
    return Starlette(
        routes=[*_openai_api.routes(provider), *_koboldcpp_api.routes(provider), *_vllm_metrics.routes(provider)],
        exception_handlers={BadRequestError: _refused, Fault: _faulted, GoneError: _gone},
    )


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    if not isinstance(error, BadRequestError):
        raise error
    return _openai_api.failure(error.status, str(error), param=error.param)


async def _faulted(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    if not isinstance(error, Fault):
        raise error
    return _openai_api.fault(error)


async def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    # Nobody reads it; the server wants an answer all the same.
    return Response(status_code=499)
