"""What `tpu_vm.sh --recipe_a_chip` goes by: recipes that were trained one by one are a comparison's own."""

import pytest
from commands import results, runner, write_questions


@pytest.mark.slow
def test_a_comparison_takes_over_recipes_that_were_trained_in_its_folder(tmp_path, tiny_checkpoint):
  run = runner(write_questions(tmp_path), "--model", str(tiny_checkpoint), "--steps", "2", "--target_length", "4")
  folder, recipes = tmp_path / "run", ("fine_tuning", "lora")
  run("compare", folder, "--recipes", ",".join(recipes), "--dry_run")
  for recipe in recipes:
    run("train", folder / recipe, "--recipes", recipe)
  trained = {recipe: (folder / recipe / "results.json").read_bytes() for recipe in recipes}
  run("compare", folder, "--recipes", ",".join(recipes))
  assert {recipe: (folder / recipe / "results.json").read_bytes() for recipe in recipes} == trained
  assert [recipe["recipe"] for recipe in results(folder)["recipes"]] == list(recipes)
