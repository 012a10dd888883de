"""What a mesh is read from, and what is refused before anything is computed."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from fiat_jax import meshes, sharding
from fiat_jax.errors import UserError
from fiat_jax.models import layers, quantized


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


@dataclasses.dataclass(frozen=True)
class Chip:
  """A device as JAX describes those of a slice."""

  id: int
  coords: tuple[int, int, int] = (0, 0, 0)
  slice_index: int = 0
  process_index: int = 0
  platform: str = "tpu"
  device_kind: str = "TPU v6 lite"
  core_on_chip: int = 0


def chips(side: int, slices: int = 1) -> list[Chip]:
  places = itertools.product(range(slices), range(side), range(side))
  return [Chip(n, (x, y, 0), slice_index) for n, (slice_index, x, y) in enumerate(places)]


@pytest.mark.parametrize("shape", [(2, 8, 1), (8, 1, 2), (2, 2, 4), (1, 16, 1), (4, 4, 1)])
def test_an_axis_may_take_a_part_of_a_slice_s_side(shape):
  laid = meshes.laid(chips(4), dict(zip(meshes.AXES, shape, strict=True)))
  assert laid.shape == shape and len({chip.id for chip in laid.flat}) == 16


def test_across_slices_of_tpus_goes_data_alone():
  laid = meshes.laid(chips(2, slices=2), {"data": 2, "fsdp": 4, "tensor": 1})
  assert [{chip.slice_index for chip in part.flat} for part in laid] == [{0}, {1}]
  with pytest.raises(UserError, match="data=1 goes across 2 slices: take a multiple of 2"):
    meshes.laid(chips(2, slices=2), {"data": 1, "fsdp": 8, "tensor": 1})


def test_across_gpu_nodes_goes_whatever_is_asked():
  nodes = [Chip(n, slice_index=n // 4, process_index=n // 4, platform="gpu", device_kind="H100") for n in range(8)]
  laid = meshes.laid(nodes, {"data": 1, "fsdp": 4, "tensor": 2})
  assert [{chip.process_index for chip in part.flat} for part in laid[0]] == [{0}, {0}, {1}, {1}]


def test_one_device_has_no_mesh_and_nothing_is_moved():
  tree = {"a": 1}
  assert meshes.make_mesh(meshes.parse("", 1)) is None and sharding.mesh() is None
  assert sharding.rows(tree) is tree and sharding.whole(tree) is tree
  assert sharding.ways("batch") == 1 and sharding.lies(tree) is None


def test_programs_are_those_of_the_devices_that_are_planned_for():
  kernel = quantized.quantize(jnp.ones((64, 8)), "int8")

  def programs() -> list[str]:
    head = jax.make_jaxpr(lambda hidden, embedding: layers.tied_logits(hidden, embedding, jnp.float32))
    product = jax.make_jaxpr(lambda x: quantized.product(x, kernel, jnp.float32))
    return [str(head(jnp.ones((2, 8)), jnp.ones((16, 8)))), str(product(jnp.ones((2, 64))))]

  of_cpu = programs()
  chip = AbstractDevice(device_kind="TPU v6 lite", num_cores=1, platform="tpu")
  with jax.sharding.use_abstract_mesh(AbstractMesh((4,), ("data",), abstract_device=chip)):
    of_tpu = programs()
    assert sharding.platform() == "tpu"
  assert sharding.platform() == "cpu" and programs() == of_cpu
  assert "optimization_barrier" in of_cpu[0] and "optimization_barrier" not in of_tpu[0]
  assert len(of_tpu[1].splitlines()) < len(of_cpu[1].splitlines())
