"""What can be set for a whole process (`tf.config`)."""

from __future__ import annotations

from gradtape.function import functions_run_eagerly, run_functions_eagerly

__all__ = ["functions_run_eagerly", "run_functions_eagerly"]
