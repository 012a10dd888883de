"""Every run under `gin/runs` is planned on the slice that it names, or one that it would go to, and fits there."""

import functools
import pathlib

import pytest

from fiat_jax import configuration, flags
from fiat_jax.errors import UserError
from fiat_jax.planning import child, chips
from fiat_jax.verbs import plan

RUNS = sorted(
  path.stem
  for path in pathlib.Path("gin/runs").glob("*.gin")
  if path.stem not in ("rows", "exemplars_of_beta")  # settings themselves; a run where no model is here
)
CHIP = "--topology v5e:1x1"
ELSEWHERE = {
  "beta_70b_v5p": "",
  "demo_t5": f"{CHIP} --model mt0_small",  # in place of one that is made
  "flacuna": "--topology v5p:2x2x1 --mesh fsdp=4",  # its row is long, and a slot's cache over a gigabyte
  "model_size": "--topology v6e:1x1",  # 1.7 billion parameters in float32
  "table3_xtreme_up": "--topology v6e:1x1",  # 580 million, all tuned; compiled 14.4 GiB of v5e's 16, by estimate more
  "xxl_v5e": "",
}


@functools.cache
def asked(run):
  given = flags.parse(["--gin_file", f"gin/runs/{run}.gin", *ELSEWHERE.get(run, CHIP).split()])
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  return plan.most(configured, chips.parse(configured.settings.topology))[1]


@functools.cache
def found(key):
  return child.ask(next(asked(run) for run in RUNS if repr(asked(run)) == key))  # runs of one program are planned once


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_a_shipped_run_fits_its_slice_and_computes_little_more_than_it_has_to(run):
  """By estimate where there is no libtpu; with it, compiled: an hour, and so in no suite."""
  planned = found(repr(asked(run)))
  assert {step.name: step.peak / planned.memory for step in planned.steps if step.peak > planned.memory} == {}
  assert bool(planned.compiler) == child.has_compiler()
  if planned.compiler:
    assert {step.name: step.flops / step.least for step in planned.steps if step.flops > 1.15 * step.least > 0} == {}


def test_a_run_in_which_no_model_is_here_is_nothing_to_plan():
  given = flags.parse(["--gin_file", "gin/runs/exemplars_of_beta.gin", *CHIP.split()])
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  with pytest.raises(UserError, match="no model runs here"):
    plan.most(configured, chips.parse("v5e:1x1"))


def test_of_several_recipes_the_one_that_takes_the_most_is_planned():
  assert asked("rank").lora.rank == 64
  assert asked("adapters").trains == "all"
  assert asked("model_size").name == "smollm2_1_7b_instruct"
