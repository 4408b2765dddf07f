"""A pretend LLM server that really fails: OpenAI- and KoboldCpp-compatible, with dials for faults."""

from faulty_llm._dials import DialError, Dials, ProviderDials
from faulty_llm._simulator import Simulator

__all__ = ["DialError", "Dials", "ProviderDials", "Simulator"]
