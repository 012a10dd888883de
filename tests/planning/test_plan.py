"""`fiat plan`: what it reads, what it refuses, what it says by estimate; compiled where libtpu is to be had."""

import dataclasses
import os
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from safetensors.numpy import load_file

from fiat_jax import cli, configuration, flags
from fiat_jax.errors import UserError
from fiat_jax.models import catalogue
from fiat_jax.models.family import module_for
from fiat_jax.models.lora import LoraConfig
from fiat_jax.planning import child, chips, least, report
from fiat_jax.planning.records import Asked, Found, Worked
from fiat_jax.planning.steps import Plan
from fiat_jax.verbs import plan
from fiat_jax.verbs.tuning import optimizer_config


@pytest.mark.parametrize(
  ("text", "devices", "gib", "described"),
  [
    ("v5e:4x4", 16, 16, "v5e:4x4"),
    ("v5e:1x1", 1, 16, "v5e:2x2"),
    ("v4:2x2x2", 8, 32, "v4:2x2x2"),
    ("v5p:1x1x1", 1, 95, "v5p:2x2x1"),
    ("cuda:24GB", 1, 0.9 * 24e9 / 2**30, ""),
    ("cuda:8x80GB", 8, 0.9 * 80e9 / 2**30, ""),
  ],
)
def test_devices_are_read(text, devices, gib, described):
  target = chips.parse(text)
  assert (target.devices, target.described) == (devices, described)
  assert target.chip.memory == pytest.approx(gib * 2**30)


@pytest.mark.parametrize("text", ["v5e", "v9:2x2", "v5e:4", "v4:2x2", "cuda", "cuda:24", "cuda:0GB", "v5e:0x4", "4x4"])
def test_devices_that_are_not_known_are_refused(text):
  with pytest.raises(UserError, match="--topology"):
    chips.parse(text)


@pytest.mark.parametrize(("name", "billions"), [("flan_t5_small", 0.077), ("flan_t5_xxl", 11.1), ("vicuna_13b", 13.0)])
def test_parameters_are_those_that_are_published(name, billions):
  assert least.parameters(catalogue.family(name).shapes()) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("name", ["smollm2_135m_instruct", "vicuna_7b", "flan_t5_xl"])
def test_an_update_takes_about_four_or_six_operations_a_weight_and_token(name):
  """Of short rows, where attention is little, and where every token is a target, as the rule of thumb has it."""
  family = catalogue.family(name)
  shapes, config = family.shapes(), family.config
  weights = (
    least.parameters(shapes) - (1 + (not getattr(config, "tied_head", False))) * config.vocab_size * config.width
  )
  for full, times in ((False, 4), (True, 6)):
    flops = least.update(config, shapes, 48, 16, full=full)
    logits = times * 16 * config.vocab_size * config.width
    met = 64 if name != "flan_t5_xl" else 32  # each of its tokens meets about half of them
    assert (flops - logits) / (met * weights) == pytest.approx(times, rel=0.2)


def planned(*words: str) -> int:
  return cli.main(["plan", "--dtype", "bfloat16", *words])


@pytest.mark.slow
def test_a_plan_by_estimate_says_what_is_held_and_that_nothing_was_compiled(capsys):
  assert planned("--topology", "cuda:24GB", "--model", "vicuna_13b", "--source_length", "256") == 0
  told = capsys.readouterr().out
  assert "vicuna_13b, 13,015,864,320 parameters, bfloat16, LoRA" in told
  assert "by estimate, nothing was compiled" in told and "run times are not said" in told
  assert "train, evaluate, prefill, decode would not fit: --weights int8 or nf4" in told
  train = next(line.split() for line in told.splitlines() if line.startswith("train"))
  assert float(train[1]) == pytest.approx(2 * 13_015_864_320 / 2**30, abs=0.01) and train[-1] == "NO"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vicuna_13b", "flan_t5_xxl"])
def test_large_models_in_nf4_under_lora_stay_under_24_gb_by_estimate(model, capsys):
  words = ("--topology", "cuda:24GB", "--model", model, "--weights", "nf4", "--source_length", "512")
  assert planned(*words, "--target_length", "128") == 0
  told = capsys.readouterr().out
  steps = [line.split() for line in told.splitlines() if line.startswith(("train", "evaluate", "prefill", "decode"))]
  assert len(steps) == 4 and all(step[-1] == "yes" for step in steps)


@pytest.mark.slow
def test_weights_are_dealt_out_over_the_devices_of_a_mesh(capsys):
  words = ("--topology", "cuda:8x80GB", "--model", "flan_t5_xxl", "--source_length", "512", "--target_length", "128")
  held = []
  for mesh in ("", "fsdp=8"):
    assert planned(*words, "--mesh", mesh) == 0
    lines = capsys.readouterr().out.splitlines()
    held.append(float(next(line for line in lines if line.startswith("train")).split()[1]))
  assert held[0] / held[1] == pytest.approx(8, rel=0.01)


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "no devices to plan for: give --topology"),
    (["--topology", "cuda:2x24GB", "--mesh", "fsdp=3"], "--mesh fsdp=3 makes 3 of 2 devices"),
    (["--topology", "cuda:32x24GB"], "--slots 16 cannot be dealt to data=32: give 32, or another --mesh"),
    pytest.param(
      ["--topology", "cuda:4x24GB", "--mesh", "tensor=4"],
      "heads, 6, cannot be dealt to 4 devices",
      marks=pytest.mark.slow,
    ),
    (
      ["--topology", "cuda:24GB", "--recipes", "full_fine_tuning", "--weights", "nf4"],
      "full fine-tuning trains all weights, and what is quantized is frozen",
    ),
    (["--topology", "cuda:24GB", "--dtype", "float8"], "the dtype 'float8' is not supported"),
    (["--topology", "cuda:24GB", "--dtype", "float16"], "overflow in float16"),
  ],
)
def test_what_does_not_go_together_is_refused_in_a_line(words, told, capsys):
  assert planned("--model", "flan_t5_small", *words) == 2
  assert told in capsys.readouterr().err


def test_a_checkpoint_that_is_here_is_planned_for_by_its_own_sizes(tiny_checkpoint, capsys):
  assert planned("--topology", "cuda:1GB", "--model", str(tiny_checkpoint), "--source_length", "32") == 0
  told = capsys.readouterr().out
  count = sum(tensor.size for tensor in load_file(tiny_checkpoint / "model.safetensors").values())
  assert f"{count:,} parameters" in told and "all of it fits on one device" in told


def asked(*words: str):
  given = flags.parse(list(words))
  configured = configuration.configure(given.gin_files, given.bindings, given.settings, given.search_paths)
  return plan.most(configured, chips.parse(configured.settings.topology))[1]


def test_an_estimate_counts_a_gradient_of_all_that_is_tuned_and_of_several_microbatches_their_sum(tiny_checkpoint):
  work = asked("--topology", "cuda:1GB", "--model", str(tiny_checkpoint), "--source_length", "32")._replace(
    trains="all"
  )
  module = module_for(work.config, work.name, "float32", work.lora)
  with jax.set_mesh(child._mesh(work.target, {"data": 1, "fsdp": 1, "tensor": 1}, False)):
    for batch in (1, 4):
      settings = dataclasses.replace(work.settings, batch=batch)
      made = Plan(module, settings, optimizer_config(settings), full=True)
      estimate = child._Work(made, work._replace(settings=settings), False)
      train = estimate.step("train", made.train(1), 1)
      gradients = train.peak - sum(train.held.values()) - estimate._activations(1)
      assert gradients == min(2, batch) * train.held["model"]


@pytest.mark.parametrize(
  ("fit", "tried"), [(0, [64, 32, 16, 1]), (1, [64, 32, 16, 1]), (16, [64, 32, 16]), (128, [64, 128])]
)
def test_a_plan_is_of_the_step_that_training_begins_with_and_before_it_gives_up_of_one_row(fit, tried):
  class Work(child._Work):
    def _by_estimate(self) -> int:
      return 64

    def step(self, name, step, rows):
      return Worked(name, rows, 1, 0, {}, 0.0 if rows <= fit else 2.0, 0.0, True)

  made: Any = SimpleNamespace(train=lambda rows: None, evaluate=lambda rows: None)
  asked: Any = SimpleNamespace(target=SimpleNamespace(chip=chips.Chip("one", 1.0)), settings=None)
  asked.settings = SimpleNamespace(batch=128, microbatch_tokens=0)
  work = Work(made, asked, True)
  best, _ = work.training()
  assert list(work.tried) == tried and best.rows == max(1, min(fit, 64))


@pytest.mark.parametrize(
  ("mesh", "waste"),
  [({"data": 4, "fsdp": 1, "tensor": 1}, True), ({"data": 1, "fsdp": 4, "tensor": 1}, False)],
)
def test_a_slice_is_called_a_waste_where_a_chip_has_room_for_the_whole_model(mesh, waste):
  """A third of each device's memory: of a copy of the model, or of a quarter of it."""
  target = chips.parse("v5e:2x2")
  train = Worked("train", 8, 1, 4096, {"model": 5 * chips.GIB}, 8.0 * chips.GIB, 0.0, True, 1e12, 1e10)
  found = Found("libtpu", mesh, 10**9, target.chip.memory, [train], {8: True})
  settings: Any = SimpleNamespace(batch=32, source_length=96, target_length=32, steps=100, slots=16)
  told = report.advice(Asked(target, "model", {}, settings, "adapter", LoraConfig()), found)
  assert any("the slice is a waste" in line for line in told) is waste


def test_times_are_read_as_people_say_them():
  told = [report.duration(seconds) for seconds in (0.0004, 0.05, 1.6, 3, 90, 150, 5000, 10_000, 400_000)]
  assert told == ["0.4 ms", "50 ms", "1.6 s", "3 s", "90 s", "2.5 min", "83.3 min", "2.78 h", "4.63 days"]


@pytest.mark.slow
@pytest.mark.skipif(not child.has_compiler(), reason="libtpu is not to be had")
def test_a_plan_for_a_tpu_is_compiled_by_its_own_compiler(capsys):
  words = ("--topology", "v5e:2x2", "--mesh", "fsdp=4", "--model", "flan_t5_small", "--batch", "8")
  before = {name: os.environ.get(name) for name in child.COMPILES}
  assert planned(*words, "--source_length", "128", "--target_length", "32") == 0
  told = capsys.readouterr().out
  assert "compiled by libtpu" in told and "all-gather" in told
  train = next(line.split() for line in told.splitlines() if line.startswith("train"))
  assert train[6] == "yes" and 0.9 < float(train[8]) < 1.2
  assert before == {name: os.environ.get(name) for name in child.COMPILES}, (
    "what is set for the compiler is the child's"
  )


@pytest.mark.parametrize(
  ("message", "sizes"),
  [
    ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Used 17.15G of 15.75G hbm. Exceeded", (17.15, 15.75)),
    (
      "E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO temporaries (22.96G) "
      "exceeds available HBM (15.75G). HLO module: jit_step.",
      (22.96, 15.75),
    ),
    ("RESOURCE_EXHAUSTED: something else", None),
  ],
)
def test_what_the_compiler_says_of_a_program_that_does_not_fit_is_read(message, sizes):
  assert child.too_large(message) == (sizes and tuple(pytest.approx(size * chips.GIB) for size in sizes))


def test_a_compiler_whose_programs_cannot_be_read_is_named_with_the_one_that_goes_with_jax(monkeypatch):
  class Compiled:
    def as_text(self):
      raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure: async-update should have 1 operands but sees 3")

  monkeypatch.setattr(child.importlib.metadata, "version", {"libtpu": "9.9", "jaxlib": "1.0"}.__getitem__)
  with pytest.raises(UserError, match=r"jaxlib 1.0 cannot read what libtpu 9.9 compiled: .* 'libtpu==[\d.]+"):
    child._text(Compiled())
