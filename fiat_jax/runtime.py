"""JAX's own settings, made once before any work: the persistent compilation cache."""

from __future__ import annotations

import jax

from fiat_jax.resources import cache_folder


def start() -> None:
  """Compiled programs are kept between commands, so that a second start is quick."""
  jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
