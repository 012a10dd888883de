"""What is settled once before any work: the processes, the mesh of their devices, JAX's own compilation cache."""

from __future__ import annotations

import jax

from fiat_jax import cluster, meshes, sharding
from fiat_jax.resources import cache_folder
from fiat_jax.settings import Settings


def start(settings: Settings) -> None:
  """The processes meet; compiled programs are kept between commands, for a quick second start; MESH is laid out.

  Raises:
    UserError: a process did not come or has other settings, the mesh does not fit the devices, or SLOTS do not fit it.
  """
  cluster.join(settings)
  jax.config.update("jax_compilation_cache_dir", str(cache_folder("compiled")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
  meshes.start(settings.mesh)
  sharding.check_slots(settings.slots)
