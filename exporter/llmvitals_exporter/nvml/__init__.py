"""The child process that talks to NVIDIA's driver: ``python -m llmvitals_exporter.nvml``.

It reads a line ``{"id": n}`` and answers with one line of JSON::

    {"id": n, "status": "ok", "code": 0, "driver": {"driver_version": "…", "cuda_version": "…"},
     "devices": [{"uuid": "…", "info": {"index": "0", …}, "readings": [["temperature_celsius", ["gpu"], 41.0], …]}],
     "xids": [["<uuid>", <xid>, <times since the child's start>, <Unix time of the last>], …]}

``status`` is also ``absent`` (no driver, no library) or ``failed``. It stays that for this process, which is to be
replaced: NVML keeps a library that was exchanged under it for as long as the process lives. A reading's name is its
family's without ``llmvitals_gpu_``, in base units; a reading that the card does not support is left out.
"""
