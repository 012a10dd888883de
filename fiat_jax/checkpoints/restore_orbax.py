"""Reads this folder with orbax.checkpoint alone, and lists what is in it.

    python restore.py

`restore("model")` is the tree of the model's arrays, the layers of a stack on the first axis, kernels [in, out];
`restore("adapter")`, where there is one, what was tuned beside it: it is merged into the model already, but for a soft
prompt. config.json says what the model is.
"""

import pathlib

import orbax.checkpoint as ocp

here = pathlib.Path(__file__).resolve().parent


def restore(name):
  with ocp.PyTreeCheckpointer() as checkpointer:
    return checkpointer.restore(here / name)


def show(tree, path=""):
  for name, node in tree.items():
    if isinstance(node, dict):
      show(node, f"{path}/{name}")
    else:
      print(f"{path}/{name}", node.dtype, node.shape)


if __name__ == "__main__":
  for folder in ("model", "adapter"):
    if (here / folder).is_dir():
      show(restore(folder), folder)
