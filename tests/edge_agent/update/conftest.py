"""A fleet's repository and a device, made once and copied: keys and signatures take a while."""

import copy
import shutil
from pathlib import Path

import pytest

from deploy.release.repository import Keys
from deploy.release.repository import Repository as Offered
from edge_agent.contracts.release import Place
from tests.deploy.releases import World


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three releases that differ in their models; the device has none of them."""
    made = World(tmp_path_factory.mktemp("three"))
    for number in (1, 2, 3):
        made.release(number, f"model {number}".encode() * 100)
    return made


@pytest.fixture
def world(three: World, tmp_path: Path) -> World:
    """The same, for one test alone."""
    folder = tmp_path / "world"
    shutil.copytree(three.folder, folder)
    made = copy.copy(three)
    made.folder, made.place = folder, Place(folder / "device")
    made.offered = Offered(folder / "repository", Keys(folder / "keys"))
    return made
