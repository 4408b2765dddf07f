"""The families of Python itself: its interpreter, its memory, its event loops; `llmvitals.catalogue` shows them."""

from llmvitals._family import Family

GC_PAUSE = Family(
    "llmvitals_python_gc_pause_seconds",
    "histogram",
    "Time for which a garbage collection held up all Python code of the process.",
    ("generation",),
    (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
PYTHON_THREADS = Family("llmvitals_python_threads", "gauge", "Threads that Python knows of.")
NATIVE_HEAP = Family(
    "llmvitals_native_heap_bytes",
    "gauge",
    "Memory of the C allocator: used, free (kept, and not given back to the system), and mmap (large blocks).",
    ("kind",),
)
CONNECTIONS = Family(
    "llmvitals_process_connections",
    "gauge",
    "Internet connections of this process by their state; many in close_wait were never closed.",
    ("state",),
)
GROWTH_SITE = Family(
    "llmvitals_memory_site_growth_bytes_per_second",
    "gauge",
    "Growth of memory allocated at a line of code, when it was looked for last; lines that grew all the while.",
    ("site",),
)
LOOP_CPU = Family(
    "llmvitals_asyncio_loop_cpu_seconds_total",
    "counter",
    "Processor time of an event loop's thread; per second it is the loop's utilisation.",
    ("loop",),
)

TORCH_MEMORY = Family(
    "llmvitals_torch_memory_bytes",
    "gauge",
    "CUDA memory of this process, as torch has it: allocated to tensors, reserved from the device, or inactive_split.",
    ("device", "kind"),
)
TORCH_MEMORY_PEAK = Family(
    "llmvitals_torch_memory_peak_bytes",
    "gauge",
    "The most that the CUDA memory of this process has been.",
    ("device", "kind"),
)
TORCH_RETRIES = Family(
    "llmvitals_torch_alloc_retries_total",
    "counter",
    "Times that torch had to give memory back to the device before it could allocate.",
    ("device",),
)
TORCH_OOMS = Family("llmvitals_torch_ooms_total", "counter", "Times that torch ran out of CUDA memory.", ("device",))

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
