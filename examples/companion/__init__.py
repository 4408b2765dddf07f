"""An LLM companion with the needs of a real one: chat over HTTP and WebSocket, watched and tended by llmvitals."""
