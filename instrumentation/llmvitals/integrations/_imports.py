"""Call back when a module has been imported, so that a library nobody uses is not imported for our sake."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    # As a base class it would cost every import of llmvitals 3 ms.
    from importlib.abc import Loader


class AfterImport:
    """A finder that stands first in ``sys.meta_path`` while something is waited for; finds nothing itself.

    Takes no lock: it runs inside the import of a module, where waiting for anybody could be for ever.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Callable[[], object]] = {}

    def wait(self, module: str, then: Callable[[], object]) -> None:
        """Call *then* once, in the importing thread, when *module* has been imported; it must not raise."""
        self._waiting[module] = then
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        then = self._waiting.get(fullname)
        if then is None:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None and finder is not self else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader, lambda: self._imported(fullname)))
                return spec
        return None

    def _imported(self, module: str) -> None:
        then = self._waiting.pop(module, None)
        if then is not None:
            then()


class _Loader:
    """The module's own loader, and a word when it is done. The module keeps its own, which resources are read with."""

    def __init__(self, loader: Any, done: Callable[[], object]) -> None:
        self._loader = loader
        self._done = done

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return cast("ModuleType | None", self._loader.create_module(spec))

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._done()

    def __getattr__(self, name: str) -> Any:
        # Who asks for a module's source or resources may do so without importing it.
        return getattr(self._loader, name)
