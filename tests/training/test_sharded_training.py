"""Training over eight devices: the losses of one, whatever the mesh, the family and what is trained."""

import itertools

import meshes
import numpy as np
import pytest

pytestmark = pytest.mark.compiled_quickly

ALL = tuple(f"data={d},fsdp={f},tensor={t}" for d, f, t in itertools.product((1, 2, 4, 8), repeat=3) if d * f * t == 8)


def check(family, collection, optimizer, steps, shapes, processes=1):
  case = ["losses", family, collection, optimizer, steps]
  if processes == 1:
    one, *others = meshes.run([[*case, shape] for shape in (None, *shapes)])
  else:
    (one,) = meshes.run([[*case, None]])
    others = meshes.run([[*case, shape] for shape in shapes], processes)
  assert one[-1] < one[0]
  for shape, losses in zip(shapes, others, strict=True):
    np.testing.assert_allclose(losses, one, rtol=0, atol=1e-5, err_msg=shape)


def test_losses_over_a_mesh_are_those_of_one_device():
  check("decoder", "lora", "adamw", 4, ["data=2,fsdp=2,tensor=2"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_so_are_they_beside_quantized_kernels(kind):
  check(f"decoder {kind}", "lora", "adamw", 4, ["data=2,fsdp=2,tensor=2", "fsdp=8"])


@pytest.mark.slow
@pytest.mark.parametrize(("family", "collection"), [("decoder", "lora"), ("t5", "params")])
def test_no_more_than_a_layer_or_the_embedding_is_collected_at_a_time(family, collection):
  for found in meshes.run([["gathered", family, collection, shape] for shape in ("fsdp=8", "data=2,fsdp=2,tensor=2")]):
    assert found["largest"] <= max(found["layer"], found["embedding"]) < found["all"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("collection", ["lora", "params"])
@pytest.mark.parametrize("family", ["decoder", "t5"])
def test_losses_over_every_mesh_that_divides_are_those_of_one_device(family, collection):
  check(family, collection, "adamw", 20, ALL)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "family", "collection"),
  [(n, *kind) for n, kind in enumerate(itertools.product(("decoder", "t5"), ("lora", "params")))],
)
def test_so_are_they_over_two_processes_of_four_devices(number, family, collection):
  """Every mesh once: a step that crosses processes takes a second here."""
  check(family, collection, "adamw", 20, ALL[number::4], processes=2)


@pytest.mark.slow
def test_an_adapter_that_is_made_of_weights_begins_the_same_where_these_lie_across_processes():
  cases = [["begun", "prompt", "fsdp=8"], ["begun", "dora", "tensor=4,fsdp=2"]]
  (ones, others) = meshes.run([[*case[:2], None] for case in cases]), meshes.run(cases, processes=2)
  for one, other in zip(ones, others, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_sequence_of_examples_is_the_same_on_one_two_and_four_processes():
  cases = [["fed", "data=4,fsdp=2"], ["fed", "data=2,tensor=4"]]
  one, two, four = (meshes.run(cases, count) for count in (1, 2, 4))
  assert len({str(batch) for batch in one[0]}) == 5, "no batch is another's"
  assert one == two == four


@pytest.mark.slow
@pytest.mark.parametrize("family", ["decoder", "t5"])
def test_so_are_they_with_adafactor_whose_state_has_other_shapes(family):
  check(family, "params", "adafactor", 20, ["fsdp=8", "data=2,fsdp=2,tensor=2"])
