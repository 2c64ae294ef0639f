"""Files as the tests of this room write them, and what a reader says of them."""

import pytest
from uprank.configs.errors import UserError


@pytest.fixture
def file(tmp_path):
    """`file(content, name="file.txt")`: the path of a new file in the test's folder."""

    def write(content, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture(scope="session")
def problems():
    """`problems(read, path)`: what a reader refuses in a file."""

    def listed(read, path):
        with pytest.raises(UserError) as caught:
            read(path)
        return caught.value.problems

    return listed
