"""What is counted in compiled programs, against the arithmetic of what they were compiled from."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from fiat_jax.planning import program

B, D, F, LAYERS = 8, 32, 48, 16


def compiled(f, *shapes):
  return jax.jit(f).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile().as_text()


def test_a_product_counts_two_a_multiplication_and_reads_and_writes_its_matrices_once():
  found = program.costs(compiled(jnp.dot, (B, D), (D, F)))
  assert found.flops == 2 * B * D * F
  assert found.traffic == 4 * (B * D + D * F + B * F)
  assert not found.collectives


def test_a_loop_counts_as_often_as_it_runs_and_reads_a_slice_each_time():
  def layers(x, kernels):
    return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

  found = program.costs(compiled(layers, (B, D), (LAYERS, D, D)))
  assert found.flops == LAYERS * 2 * B * D * D
  whole = 4 * LAYERS * D * D  # the stack: read once in all, and not once a layer
  assert whole < found.traffic < 5 * whole


def test_a_loop_whose_number_is_not_known_counts_as_often_as_said():
  def some(x, kernel, count):
    return jax.lax.fori_loop(0, count, lambda _, x: x @ kernel, x)

  lowered = jax.jit(some).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((B, D), (D, D))), jnp.int32(0))
  text = lowered.compile().as_text()
  assert program.costs(text, trips=7).flops == 7 * program.costs(text).flops == 7 * 2 * B * D * D


def test_products_of_stacks_and_gradients_are_counted():
  text = compiled(jax.grad(lambda w, x: jnp.sum(jnp.einsum("bsd,bdf->bsf", x, w) ** 2)), (B, D, F), (B, 16, D))
  assert program.costs(text).flops == 2 * 2 * B * 16 * D * F


# As libtpu writes products of matrices, with figures worked out by hand.
TPU = """HloModule m, is_scheduled=true

%cond (p.1: (s32[], bf16[4,8])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %n = s32[]{:T(128)} constant(3)
  %i = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%fused (a: bf16[4,8], b: bf16[8,8]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %b = bf16[8,8]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = bf16[4,8]{1,0:T(8,128)(2,1)} convolution(%a, %b), dim_labels=bf_io->bf
}

%body (p.2: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p.2 = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  %x = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%p.2), index=1
  %w = bf16[2,8]{1,0:T(8,128)(2,1)} constant({...})
  %g = bf16[8,8]{1,0:T(8,128)(2,1)} all-gather(%w), channel_id=1, dimensions={0}
  %y = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} fusion(%x, %g), kind=kOutput, calls=%fused
  %c.1 = s32[]{:T(128)} constant(STRIDE)
  %k = s32[]{:T(128)} add(%j, %c.1)
  ROOT %t = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) tuple(%k, %y)
}

ENTRY %main (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  ROOT %loop = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) while(%p), condition=%cond, body=%body
}
"""


@pytest.mark.parametrize(("stride", "trips"), [(1, 3), (2, 2)])
def test_programs_of_a_tpu_are_read_with_trips_collectives_and_what_stays_on_the_core(stride, trips):
  found = program.costs(TPU.replace("STRIDE", str(stride)))
  assert found.flops == trips * 2 * 4 * 8 * 8
  assert found.collectives == {"all-gather": trips * 8 * 8 * 2}
  gathered = 2 * (2 * 8 + 8 * 8 + 8 * 8)  # from a part, written, read by the product
  assert found.traffic == trips * (gathered + 3 * 4)  # beside the counter


# As libtpu fuses: a layer's slice of a stack is cut in a fusion within another, what is new of a stack is put into it,
# and what is gathered meanwhile goes through.
FUSED = """HloModule m, is_scheduled=true

%cut (s: bf16[6,4,8], n: s32[]) -> bf16[4,8] {
  %s = bf16[6,4,8] parameter(0)
  %n = s32[]{:S(6)} parameter(1)
  %zero = s32[] constant(0)
  %slice = bf16[1,4,8] dynamic-slice(%s, %n, %zero, %zero), dynamic_slice_sizes={1,4,8}
  ROOT %flat = bf16[4,8] bitcast(%slice)
}

%work (stack: bf16[6,4,8], kept: bf16[6,4,8], i: s32[], part: bf16[2,8], whole: bf16[16,8]) -> (bf16[6,4,8]) {
  %stack = bf16[6,4,8] parameter(0)
  %kept = bf16[6,4,8] parameter(1)
  %i = s32[]{:S(6)} parameter(2)
  %part = bf16[2,8]{1,0:S(1)} parameter(3)
  %whole = bf16[16,8] parameter(4)
  %one = bf16[4,8] fusion(%stack, %i), kind=kLoop, calls=%cut
  %layer = bf16[1,4,8] bitcast(%one)
  %none = s32[] constant(0)
  %new = bf16[6,4,8] dynamic-update-slice(%kept, %layer, %i, %none, %none)
  %more = bf16[16,8] all-gather(%part), channel_id=4, dimensions={0}
  ROOT %all = (bf16[6,4,8], bf16[2,8]{1,0:S(1)}, bf16[16,8]) tuple(%new, %part, %more)
}

%first (some: bf16[2,8]) -> (bf16[2,8], bf16[16,8]) {
  %some = bf16[2,8]{1,0:S(1)} parameter(0)
  %got = bf16[16,8] all-gather(%some), channel_id=4, dimensions={0}
  ROOT %begun = (bf16[2,8]{1,0:S(1)}, bf16[16,8]) custom-call(%got), custom_call_target="AsyncCollectiveStart"
}

ENTRY %main (a: bf16[6,4,8], b: bf16[6,4,8], c: s32[], d: bf16[2,8]) -> (bf16[6,4,8], bf16[2,8], bf16[16,8]) {
  %a = bf16[6,4,8] parameter(0)
  %b = bf16[6,4,8] parameter(1)
  %c = s32[]{:S(6)} parameter(2)
  %d = bf16[2,8]{1,0:S(1)} parameter(3)
  %room = bf16[6,4,8] custom-call(), custom_call_target="AllocateBuffer"
  %start = (bf16[2,8]{1,0:S(1)}, bf16[16,8]) fusion(%d), kind=kCustom, calls=%first
  %e = bf16[2,8]{1,0:S(1)} get-tuple-element(%start), index=0
  %f = bf16[16,8] get-tuple-element(%start), index=1
  ROOT %done = (bf16[6,4,8], bf16[2,8]{1,0:S(1)}, bf16[16,8]) fusion(%a, %b, %c, %e, %f), kind=kOutput, calls=%work
}
"""


def test_fusions_of_a_tpu_read_slices_write_what_is_new_and_gather_once():
  found = program.costs(FUSED)
  assert found.collectives == {"all-gather": 2 * 16 * 8}
  assert found.traffic == 2 * (16 * 8 + 4 * 8 + 4 * 8)  # gathered, read of the stack, put into the other


@pytest.mark.parametrize(
  ("labels", "window", "shapes", "flops"),
  [
    ("bf_io->bf", "", ([4, 8], [8, 6], [4, 6]), 2 * 4 * 8 * 6),
    ("0bf_io0->0bf", "size=1", ([2, 4, 8], [8, 6, 1], [2, 4, 6]), 2 * 2 * 4 * 8 * 6),
    # one of two stacks at each place of the output: what lies beside it is padding
    ("fb0_0oi->0fb", "size=2 pad=1_1 rhs_reversal=1", ([8, 4, 1], [2, 6, 8], [2, 6, 4]), 2 * 2 * 4 * 8 * 6),
    ("0bf_0io->0bf", "size=3 stride=2 pad=0_0 lhs_dilate=3", ([3, 4, 8], [3, 8, 6], [3, 4, 6]), 2 * 3 * 4 * 8 * 6),
  ],
)
def test_what_xla_makes_of_products_counts_as_products(labels, window, shapes, flops):
  rest = f", window={{{window}}}, dim_labels={labels}"
  assert program._convolution(*shapes, rest) == flops


def test_collectives_over_devices_are_counted_with_their_bytes():
  code = """
import json, jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from fiat_jax.planning import program
mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
put = lambda shape, *spec: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))
def layers(x, kernels):
  one = lambda x, kernel: (x @ jax.lax.with_sharding_constraint(kernel, NamedSharding(mesh, P())), None)
  return jax.lax.scan(one, x, kernels)[0]
text = jax.jit(layers).lower(put((8, 32), "fsdp"), put((5, 32, 32), None, "fsdp")).compile().as_text()
found = program.costs(text)
print(json.dumps([found.flops, found.collectives]))
"""
  environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
  flops, collectives = json.loads(done.stdout)
  assert flops == 5 * 2 * 2 * 32 * 32
  assert collectives == {"all-gather": 5 * 4 * 32 * 32}
