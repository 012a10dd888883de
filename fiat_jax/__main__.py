"""`python -m fiat_jax VERB …`."""

import sys

from fiat_jax.cli import main

sys.exit(main())
