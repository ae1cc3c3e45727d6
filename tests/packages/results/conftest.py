import pytest

from support.made_runs import Made, two_methods_and_references


@pytest.fixture
def made(tmp_path) -> Made:
    return two_methods_and_references(tmp_path / "runs")
