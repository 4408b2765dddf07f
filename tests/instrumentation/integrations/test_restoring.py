"""`uninstrument()` puts everything back: held over all that the libraries are made of, not over what we patch."""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmvitals
from llmvitals import integrations, testing

INSTALLED = [
    (library, module, file)
    for library, module, file in integrations._LIBRARIES
    if importlib.util.find_spec(module.partition(".")[0]) is not None
]
LATER = ("__pydantic", "__signature", "__dict__")


@pytest.fixture(name="packages", scope="module")
def _packages():
    """The packages that are watched, with all that is imported for it."""
    packages = {module.partition(".")[0] for _, module, _ in INSTALLED}
    for _, module, _ in INSTALLED:
        importlib.import_module(module)
    if "huggingface_hub" in packages:  # It imports its clients when somebody asks for them.
        assert sys.modules["huggingface_hub"].InferenceClient
        assert sys.modules["huggingface_hub"].AsyncInferenceClient
    before = picture(packages)
    llmvitals.instrument()
    llmvitals.uninstrument()
    assert [] == changed(before, picture(packages))
    return packages


def picture(packages):
    """Every attribute of every module and class of *packages*, and what is in every container of a module's own."""
    owners = {"sys": {"meta_path": Same(sys.meta_path)}}
    for name, module in list(sys.modules.items()):
        # Thousands of classes of data; nothing is ever called there.
        if module is None or name.partition(".")[0] not in packages or ".types." in name:
            continue
        owners[name] = {attribute: value for attribute, value in vars(module).items() if not imported(value)}
        for attribute, value in list(owners[name].items()):
            if type(value) in (list, set):
                owners[name][attribute, "contents"] = Same(value)
            if issubclass(type(value), type) and value.__module__ == name:
                # Pydantic finishes its classes when they are first used.
                own = {it: member for it, member in vars(value).items() if not it.startswith(LATER)}
                owners[f"{name}.{value.__qualname__}"] = own
    return owners


def imported(value):
    # Of the value's true type: openai 1 has stand-ins that import numpy when they are asked.
    return issubclass(type(value), ModuleType)


class Same:
    """The very objects that a container holds."""

    def __init__(self, container):
        self.items = list(container)

    def holds_what(self, other):
        return isinstance(other, Same) and list(map(id, self.items)) == list(map(id, other.items))


def changed(before, after):
    """The owners and names of what is not the very object that it was, of owners that there were before."""
    missing = object()
    return [
        (owner, name)
        for owner, attributes in before.items()
        for name in attributes | after[owner]
        if (was := attributes.get(name, missing)) is not (now := after[owner].get(name, missing))
        and not (isinstance(was, Same) and was.holds_what(now))
    ]


def test_something_of_every_library_is_changed_while_it_is_watched(packages):
    """Else the others of these tests would show nothing."""
    before = picture(packages)
    with testing.fresh() as vitals:
        watched = llmvitals.instrument(vitals)
        during = {name[0].partition(".")[0] for name in changed(before, picture(packages))}
        llmvitals.uninstrument()

    assert {library for library, _, _ in INSTALLED} == set(watched)
    assert packages - during == set()


@settings(max_examples=6, deadline=None)
@given(steps=st.lists(st.sampled_from((llmvitals.instrument, llmvitals.uninstrument)), min_size=1, max_size=6))
def test_everything_is_restored_however_often(packages, steps):
    """Every attribute is the very object that it was, after any sequence that ends with `uninstrument`."""
    before = picture(packages)
    for step in (*steps, llmvitals.uninstrument):
        step()

    assert [] == changed(before, picture(packages))


def test_everything_is_restored_when_threads_switch_on_and_off(packages):
    """At once, and whoever comes last."""
    before = picture(packages)
    start = threading.Barrier(4)

    def switch():
        start.wait()
        for _ in range(5):
            llmvitals.instrument()
            llmvitals.uninstrument()

    threads = [threading.Thread(target=switch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    llmvitals.uninstrument()

    assert [] == changed(before, picture(packages))
