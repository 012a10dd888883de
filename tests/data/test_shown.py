"""Exemplars before an example, in a SeqIO pipeline."""

import tensorflow as tf

from fiat_jax.data.features import shown


def test_the_next_examples_stand_before_x_and_every_example_is_asked():
  examples = tf.data.Dataset.from_tensor_slices({"x": ["a?", "b?", "c?", "d?"], "targets": ["A", "B", "C", "D"]})
  found = [(e["x"].decode(), e["targets"].decode()) for e in shown(2)(examples).as_numpy_iterator()]
  assert found == [("b?\nB\n\nc?\nC\n\na?", "A"), ("c?\nC\n\nd?\nD\n\nb?", "B"), ("d?\nD\n\nc?", "C"), ("d?", "D")]
