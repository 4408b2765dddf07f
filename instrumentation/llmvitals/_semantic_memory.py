import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from llmvitals import _work_families as families
from llmvitals._performance import Performance
from llmvitals._recording import Recorder, error_type

Kind = Literal["store", "search", "context", "optimise"]


class SemanticMemory:
    """A store of documents that is searched by meaning, told by the application. Thread-safe. Made by
    `Vitals.semantic_memory`.

    Around each thing that is done goes a ``with``, also around an ``await``. *size* says how many documents there are;
    it is called when somebody scrapes. A search whose best match is below *least_similarity* counts as weak.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        size: Callable[[], float] | None = None,
        max_documents: int | None = None,
        least_similarity: float = 0.7,
        target_seconds: float = 2.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not target_seconds > 0:
            raise ValueError(f"target_seconds of semantic memory {name!r} must be above 0, not {target_seconds}")
        self.name = name
        self.least_similarity = least_similarity
        self._recorder = recorder
        self._clock = clock
        self._size = size
        self._max_documents = max_documents
        self._searches = Performance()
        self._searches.target_seconds = target_seconds
        self._weak = self._stored = 0
        self._lock = threading.Lock()
        recorder.child(families.MEMORY_SEARCH_TARGET, name).set(target_seconds)
        recorder.child(families.MEMORY_WEAK_SEARCHES, name)
        if size is not None:
            recorder.read_at_scrape(families.MEMORY_DOCUMENTS, name, read=size)
        if max_documents is not None:
            recorder.child(families.MEMORY_MAX_DOCUMENTS, name).set(max_documents)

    @contextmanager
    def store(self, documents: int = 1) -> Iterator[None]:
        """Around the storing of so many documents together."""
        with self._timed("store"):
            yield
        with self._recorder.guard("semantic_memory"):
            self._recorder.child(families.MEMORY_BATCH_SIZE, self.name).observe(documents)
            with self._lock:
                self._stored += documents

    @contextmanager
    def search(self) -> "Iterator[Search]":
        """Around one search; tell what it found by `Search.found`."""
        search = Search()
        started = self._clock()
        try:
            with self._timed("search"):
                yield search
        except BaseException:
            self._searches.add(self._clock() - started, failed=True)
            raise
        self._searches.add(self._clock() - started, failed=False)
        with self._recorder.guard("semantic_memory"):
            self._found(search)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Around the making of a prompt's context from what was found."""
        with self._timed("context"):
            yield

    @contextmanager
    def optimise(self) -> Iterator[None]:
        """Around the tidying of the index: compaction, removal of duplicates, rebuilding."""
        with self._timed("optimise"):
            yield

    def summary(self) -> dict[str, Any]:
        """Documents, the most there may be, searches of late and their p95 in seconds, weak ones, what was stored."""
        searches = self._searches.summary()
        with self._lock:
            return {
                "documents": self._documents(),
                "max_documents": self._max_documents,
                "searches": searches["runs"],
                "search_p95_seconds": searches["p95_seconds"],
                "search_target_seconds": searches["target_seconds"],
                "weak_searches": self._weak,
                "stored": self._stored,
            }

    @contextmanager
    def _timed(self, kind: Kind) -> Iterator[None]:
        started = self._clock()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._recorder.child(families.MEMORY_OPERATION_DURATION, self.name, kind, error_type(error)).observe(
                self._clock() - started
            )

    def _found(self, search: "Search") -> None:
        if search.similarities is None:
            return
        scores = [float(score) for score in search.similarities]
        self._recorder.child(families.MEMORY_RESULTS, self.name).observe(len(scores))
        similarity = self._recorder.child(families.MEMORY_SIMILARITY, self.name)
        for score in scores:
            similarity.observe(min(max(score, 0.0), 1.0))
        if max(scores, default=0.0) < self.least_similarity:
            self._recorder.child(families.MEMORY_WEAK_SEARCHES, self.name).inc()
            with self._lock:
                self._weak += 1

    def _documents(self) -> float | None:
        if self._size is None:
            return None
        try:
            return float(self._size())
        except Exception as error:  # noqa: BLE001 -- the application's index; a summary does without
            self._recorder.fault("semantic_memory", error)
            return None


class Search:
    """One search while it goes on."""

    __slots__ = ("similarities",)

    def __init__(self) -> None:
        self.similarities: Iterable[float] | None = None

    def found(self, similarities: Iterable[float]) -> None:
        """The similarity of each result, from 0 to 1."""
        self.similarities = similarities


class SemanticMemories:
    """The semantic memories of an application, by name. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._memories: dict[str, SemanticMemory] = {}
        self._lock = threading.Lock()

    def memory(self, name: str, **settings: Any) -> SemanticMemory:
        """Raises ValueError for a name that is taken."""
        with self._lock:
            if name in self._memories:
                raise ValueError(f"semantic memory {name!r} is registered already")
            memory = self._memories[name] = SemanticMemory(self._recorder, name, **settings)
        return memory

    def summary(self) -> dict[str, Any]:
        with self._lock:
            memories = list(self._memories.values())
        return {memory.name: memory.summary() for memory in memories}
