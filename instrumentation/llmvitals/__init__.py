"""Vital signs for LLM applications, and hands that act on them."""

from llmvitals._errors import CircuitOpenError, LLMVitalsError
from llmvitals._vitals import Vitals

__all__ = ["CircuitOpenError", "LLMVitalsError", "Vitals"]
