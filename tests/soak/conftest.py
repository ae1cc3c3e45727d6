import pytest


@pytest.fixture
def rounds(pytestconfig):
    """rounds(short, long): how often a soak test tries; the long form is for `make soak`."""
    return lambda short, long: long if pytestconfig.getoption("--long") else short
