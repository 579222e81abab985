from __future__ import annotations

import inspect

import pytest
from common import Api


@pytest.fixture(params=["sync", "async"], scope="session")
def api(request):
    """How the client is called."""
    made = Api(request.param)
    yield made
    made.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    arguments["api"].run(pyfuncitem.obj(**arguments))
    return True
