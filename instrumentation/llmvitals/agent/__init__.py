"""The agent: pulls commands and carries them out, by the protocol of `docs/agent-protocol.md`, within what the
application offers in code.
"""

from llmvitals.agent._agent import Agent
from llmvitals.agent._builtins import Breaker, Reach
from llmvitals.agent._clock import SYSTEM_CLOCK, Clock
from llmvitals.agent._parameters import Bounds
from llmvitals.agent._protocol import Command, Result

__all__ = ["SYSTEM_CLOCK", "Agent", "Bounds", "Breaker", "Clock", "Command", "Reach", "Result"]
