"""What a mesh is read from, and what is refused before anything is computed."""

import pytest

from fiat_jax import meshes, sharding
from fiat_jax.errors import UserError


@pytest.mark.parametrize(
  ("text", "sizes"),
  [
    ("", (8, 1, 1)),
    ("data=8", (8, 1, 1)),
    ("fsdp=4", (2, 4, 1)),
    ("data=2,fsdp=4", (2, 4, 1)),
    (" tensor=2, fsdp=2 ", (2, 2, 2)),
    ("tensor=8,data=1", (1, 1, 8)),
  ],
)
def test_a_mesh_is_read_and_data_takes_what_the_others_leave(text, sizes):
  assert tuple(meshes.parse(text, 8).values()) == sizes


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("data=3", "makes 3 of 8 devices: the sizes have to multiply to 8; leave it out, or take, say, data=8"),
    ("data=4,fsdp=4", "makes 16 of 8 devices: "),
    ("data=4,fsdp=4", ", or take, say, data=2,fsdp=4"),
    ("fsdp=3", ", or take, say, data=4,fsdp=2"),
    ("model=2", "write sizes of data, fsdp, tensor, such as data=2,fsdp=4; 'model=2' is none"),
    ("fsdp=0", "'fsdp=0' is none"),
    ("fsdp", "'fsdp' is none"),
    ("fsdp=2,fsdp=4", "'fsdp=4' is none"),
  ],
)  # fmt: skip
def test_a_mesh_that_does_not_fit_is_refused_with_one_that_does(text, told):
  with pytest.raises(UserError) as fault:
    meshes.parse(text, 8)
  assert told in str(fault.value)


def test_one_device_has_no_mesh_and_nothing_is_moved():
  tree = {"a": 1}
  assert meshes.make_mesh(meshes.parse("", 1)) is None and sharding.mesh() is None
  assert sharding.rows(tree) is tree and sharding.whole(tree) is tree
  assert sharding.ways("batch") == 1 and sharding.lies(tree) is None
