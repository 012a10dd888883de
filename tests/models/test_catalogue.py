"""The models that have a name: a gin file each, the published number of parameters, the README's table."""

from pathlib import Path

import pytest

from fiat_jax.models import catalogue

ROOT = Path(__file__).parents[2]
PUBLISHED = {
  "smollm2_135m_instruct": 134_515_008,
  "gemma3_270m_it": 268_098_176,
  "gemma3_1b_it": 999_885_952,
  "qwen2_5_0_5b_instruct": 494_032_768,
  "qwen3_8b": 8_190_735_360,
  "llama3_2_1b_instruct": 1_235_814_400,
  "llama3_1_8b_instruct": 8_030_261_248,
  "llama3_1_70b_instruct": 70_553_706_496,
  "llama2_7b_chat": 6_738_415_616,
  "mistral_7b_instruct": 7_248_023_552,
  "flan_t5_small": 76_961_152,
  "flan_t5_base": 247_577_856,
  "t5_1_1_large": 783_150_080,
  "flan_t5_xl": 2_849_757_184,
  "t5_1_1_xxl": 11_135_332_352,
  "t5_small": 60_506_624,
  "t5_base": 222_903_552,
  "t5_large": 737_668_096,
  "t5_3b": 2_851_598_336,
  "t5_11b": 11_307_321_344,
  "mt5_small": 300_176_768,
  "mt0_base": 582_401_280,
  "mt0_large": 1_229_581_312,
  "mt5_xl": 3_742_619_648,
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED.items())
def test_a_model_has_as_many_parameters_as_published(name: str, size: int):
  assert catalogue.parameters(name) == size


T5_PUBLISHED = {  # width, heads, layers of each stack, FFN, parameters: millions, to so many digits
  "small": (512, 6, 8, 1024, (77.0, 3)),
  "base": (768, 12, 12, 2048, (247.6, 4)),
  "large": (1024, 16, 24, 2816, (783, 3)),
  "xl": (2048, 32, 24, 5120, (2850, 3)),
  "xxl": (4096, 64, 24, 10240, (11100, 3)),
}


@pytest.mark.parametrize("size", T5_PUBLISHED)
@pytest.mark.parametrize("kind", ["flan_t5", "t5_1_1", "mt0", "mt5"])
def test_a_t5_has_the_published_shape(kind: str, size: str):
  config = catalogue.MODELS[f"{kind}_{size}"].config
  *shape, (millions, digits) = T5_PUBLISHED[size]
  assert [config[name] for name in ("d_model", "num_heads", "num_layers", "d_ff")] == shape
  assert config["d_kv"] == 64 and config["feed_forward_proj"] == "gated-gelu" and not config["tie_word_embeddings"]
  counted = catalogue.parameters(f"{kind}_{size}")
  if kind in ("mt0", "mt5"):  # embedding and head are longer, and nothing else differs
    assert config["vocab_size"] == 250112
    counted -= 2 * (250112 - 32128) * shape[0]
  else:
    assert config["vocab_size"] == 32128
  assert counted == catalogue.parameters(f"flan_t5_{size}")
  assert float(f"{counted / 1e6:.{digits}g}") == millions


@pytest.mark.parametrize("size", T5_PUBLISHED)
@pytest.mark.parametrize("kind", ["flan_t5", "t5_1_1", "mt0", "mt5"])
def test_a_t5_s_gin_file_says_its_shape(kind: str, size: str):
  config = catalogue.MODELS[f"{kind}_{size}"].config
  said = (
    f"# {config['d_model']} wide, {config['num_heads']} heads of 64, {config['num_layers']} layers a stack, FFN "
    f"{config['d_ff']}, vocabulary {config['vocab_size']:,}: "
    f"{catalogue.shown(catalogue.parameters(f'{kind}_{size}'))} parameters."
  )
  assert said in (ROOT / "gin" / "models" / f"{kind}_{size}.gin").read_text().splitlines()


@pytest.mark.parametrize("size", catalogue.T5_1_0_SIZES)
def test_a_t5_1_0_s_gin_file_says_its_shape(size: str):
  width, heads, head_dim, layers, ffn = catalogue.T5_1_0_SIZES[size]
  said = (
    f"# {width} wide, {heads} heads of {head_dim}, {layers} layers a stack, FFN {ffn}, vocabulary 32,128: "
    f"{catalogue.shown(catalogue.parameters(f't5_{size}'))} parameters."
  )
  assert said in (ROOT / "gin" / "models" / f"t5_{size}.gin").read_text().splitlines()


def test_every_gin_file_names_itself_and_a_model_of_the_catalogue():
  files = {path.stem: path.read_text() for path in (ROOT / "gin" / "models").glob("*.gin")}
  assert set(files) == {*catalogue.MODELS, "demo_t5"}  # which is mt0_small, or made
  for name, text in files.items():
    assert f"{name}/Checkpoint.sources = (" in text and ("'hub:" in text or "'folder:gs://" in text)


def test_the_table_of_the_readme_is_that_of_the_code():
  assert catalogue.table() in (ROOT / "README.md").read_text(), "run python -m fiat_jax.models.catalogue"


@pytest.mark.parametrize(
  ("size", "millions"), {"small": 300, "base": 582, "large": 1230, "xl": 3740, "xxl": 12900}.items()
)
def test_a_byt5_has_the_published_size_and_its_gin_file_says_its_shape(size: str, millions: int):
  width, heads, encoder, decoder, ffn = catalogue.BYT5_SIZES[size]
  parameters = catalogue.parameters(f"byt5_{size}")
  assert float(f"{parameters / 1e6:.3g}") == pytest.approx(millions, rel=0.002)  # Xue et al., 2022, table 1
  said = (
    f"# {width} wide, {heads} heads of 64, {encoder} and {decoder} layers, FFN {ffn}, vocabulary 384: "
    f"{catalogue.shown(parameters)} parameters."
  )
  assert said in (ROOT / "gin" / "models" / f"byt5_{size}.gin").read_text().splitlines()
