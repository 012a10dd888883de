"""Decoding over eight devices gives the tokens of one."""

import meshes
import pytest

SHAPES = ("data=8", "fsdp=8", "tensor=8", "data=4,tensor=2", "fsdp=2,tensor=4", "data=2,fsdp=2,tensor=2")


def check(family, shapes):
  one, *others = meshes.run([["answers", family, shape] for shape in (None, *shapes)])
  assert len({tuple(tokens) for tokens in one[0]}) == len(one[0])
  for shape, found in zip(shapes, others, strict=True):
    assert found[:2] == one[:2], shape
    assert found[2] == pytest.approx(one[2], abs=2e-3), shape


@pytest.mark.slow
def test_tokens_over_a_mesh_are_those_of_one_device():
  check("decoder", SHAPES[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["decoder", "t5"])
def test_tokens_of_either_family_over_more_meshes_are_those_of_one_device(family):
  check(family, SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_so_are_they_of_quantized_kernels(kind):
  check(f"decoder {kind}", ("tensor=8", "data=2,fsdp=2,tensor=2"))


@pytest.mark.slow
@pytest.mark.parametrize("beams", [3, 4])  # of which the one does not divide
@pytest.mark.parametrize("family", ["decoder", "t5"])
def test_beam_search_over_a_mesh_finds_what_one_device_does(family, beams):
  one, *others = meshes.run([["searched", family, beams, shape] for shape in (None, *SHAPES[::2])])
  for shape, found in zip(SHAPES[::2], others, strict=True):
    for ours, of_one in zip(found, one, strict=True):
      for answers, of_one_prompt in zip(ours, of_one, strict=True):
        assert [tokens for tokens, _ in answers] == [tokens for tokens, _ in of_one_prompt], shape
        assert [score for _, score in answers] == pytest.approx([score for _, score in of_one_prompt], abs=1e-3), shape
