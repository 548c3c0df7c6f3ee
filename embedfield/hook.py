"""Hook: what is to be done once another package has been imported, without importing it."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def once_imported(package: str, then: Callable[[], Any]) -> None:
    """Do something as soon as a package has been imported; at once if it has.

    Args:
        package: Its name.
        then: What to do.
    """
    if package in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Finder(package, then))


class _Finder(MetaPathFinder):
    """Finds a package as others would, and has something done after it is loaded."""

    def __init__(self, package: str, then: Callable[[], Any]) -> None:
        self._package, self._then = package, then

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  its signature
        target: ModuleType | None = None,  # noqa: ARG002  the same
    ) -> ModuleSpec | None:
        """Return how a module is loaded; None for any but the one that is waited for."""
        if fullname != self._package:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader, self._then)
        return spec


class _Loader(Loader):
    """Loads as another loader does, and then has something done."""

    def __init__(self, loader: Loader, then: Callable[[], Any]) -> None:
        self._loader, self._then = loader, then

    def __getattr__(self, name: str) -> Any:
        """Return what the other has, such as its data files."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module, still empty, as the other makes it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module, which then says that the other did."""
        if module.__spec__:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then()
