"""The child process that talks to AMD's driver through `amdsmi`: ``python -m llmvitals_exporter.amd``.

It answers as `llmvitals_exporter.nvml` does, without ``xids``. `amdsmi` comes with ROCm, and is what must be importable
here; its library is loaded when it is imported, and lists the cards once, when it is initialised.
"""
